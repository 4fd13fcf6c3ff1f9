//! What each directory outlives, on mount tables of podman, Docker and Kubernetes.

use super::*;

fn ground(host: Host, table: &str) -> Ground {
    Ground {
        mounts: Mounts::parse(table),
        host,
    }
}

fn survives(host: Host, table: &str, path: &str) -> Survives {
    let mounts = Mounts::parse(table);
    mounts
        .holding(Path::new(path))
        .map_or(Survives::Unknown, |mount| mount.survives(host))
}

/// Of podman, with `-v vol:/var/lib/runner`, `--tmpfs /run/runner` and a path with a space.
const PODMAN: &str = "\
500 400 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
501 500 0:53 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
502 500 0:54 / /run/runner rw,nosuid,nodev,relatime - tmpfs tmpfs rw,uid=1001,gid=1001
503 500 8:1 /var/lib/containers/storage/volumes/vol/_data /var/lib/runner rw,relatime - ext4 /dev/sda1 rw
504 500 0:55 / /run/secrets ro,relatime - tmpfs tmpfs rw
505 500 8:1 /srv/my\\040work /with\\040space rw,relatime - ext4 /dev/sda1 rw
";

/// Of Docker, with `-v named:/var/lib/runner`, on a machine whose disk is itself an overlay.
const DOCKER: &str = "\
735 632 0:60 / / rw,relatime master:300 - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
736 735 0:63 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
737 736 0:64 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=65536k
738 735 0:31 /var/lib/docker/volumes/named/_data /var/lib/runner rw,relatime - overlay overlay rw
";

const POD: &str = "\
900 800 0:70 / / rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
901 900 259:1 /var/lib/kubelet/pods/0b1c/volumes/kubernetes.io~empty-dir/work /workspace rw,relatime - xfs /dev/nvme0n1p1 rw
902 900 0:71 / /run/runner rw,relatime - tmpfs tmpfs rw,size=65536k
903 900 259:5 / /var/lib/runner rw,relatime - ext4 /dev/nvme1n1 rw
904 900 0:72 / /var/run/secrets/kubernetes.io/serviceaccount ro,relatime - tmpfs tmpfs rw
905 900 259:1 /pods/0b1c/volumes/kubernetes.io~empty-dir/data/sub /sub rw,relatime - xfs /dev/nvme0n1p1 rw
906 900 0:73 / /opaque rw - 9p none rw,trans=fd
";

#[test]
fn a_container_of_podman_or_docker_keeps_its_volumes_over_a_replacement_its_layer_over_a_restart_and_no_tmpfs() {
    for (table, path, survived) in [
        (PODMAN, "/var/lib/runner/deep/in/it", Survives::Replacement),
        (PODMAN, "/run/runner", Survives::Nothing),
        (PODMAN, "/run/runner2", Survives::RestartsOfThisContainer),
        (PODMAN, "/run/secrets/x", Survives::ReadOnly),
        (PODMAN, "/with space/x", Survives::Replacement),
        (DOCKER, "/var/lib/runner", Survives::Replacement),
        (DOCKER, "/dev/shm/secrets", Survives::Nothing),
        (DOCKER, "/workspace", Survives::RestartsOfThisContainer),
    ] {
        assert_eq!(survives(Host::Container, table, path), survived, "{path}");
    }
    let mounts = Mounts::parse(DOCKER);
    assert_eq!(Host::of(&mounts, |_| None), Host::Container, "by its root");
}

#[test]
fn a_pod_keeps_its_empty_dirs_on_disk_and_in_memory_and_no_layer_of_a_container() {
    for (path, survived) in [
        ("/workspace/repo", Survives::Restarts),
        ("/sub", Survives::Restarts),
        ("/run/runner", Survives::Restarts),
        ("/var/lib/runner", Survives::Replacement),
        ("/var/lib", Survives::Nothing),
        ("/var/run/secrets/kubernetes.io/serviceaccount", Survives::ReadOnly),
        ("/opaque", Survives::Unknown),
    ] {
        assert_eq!(survives(Host::Kubernetes, POD, path), survived, "{path}");
    }
    let env = |name: &str| (name == "KUBERNETES_SERVICE_HOST").then(|| "10.0.0.1".into());
    assert_eq!(Host::of(&Mounts::parse(POD), env), Host::Kubernetes);
}

#[test]
fn a_mount_over_another_hides_it_and_what_was_mounted_below_it() {
    let table = "\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:2 / /data rw - ext4 /dev/sdb1 rw
3 2 8:3 / /data/sub rw - ext4 /dev/sdc1 rw
4 2 0:9 / /data rw - tmpfs tmpfs rw
5 1 8:4 / /disk ro - ext4 /dev/sdd1 ro
6 5 8:5 / /disk rw - ext4 /dev/sde1 rw
";
    for (path, survived) in [
        ("/data", Survives::Nothing),
        ("/data/sub/x", Survives::Nothing),
        ("/disk/x", Survives::Replacement),
        ("/database", Survives::Replacement),
    ] {
        assert_eq!(survives(Host::Machine, table, path), survived, "{path}");
    }
}

#[test]
fn a_super_block_that_is_read_only_counts_and_a_table_that_says_nothing_is_unknown() {
    let table = "1 0 8:1 / / rw - ext4 /dev/sda1 ro,errors=continue\n";
    assert_eq!(survives(Host::Machine, table, "/x"), Survives::ReadOnly);
    for broken in ["", "1 0 8:1 / /", "no mounts - here", "1 2 8:1 / / rw - ext4"] {
        assert_eq!(survives(Host::Machine, broken, "/x"), Survives::Unknown, "{broken:?}");
    }
    // Each the other's parent: no way leads there, and none is walked for ever.
    let circle = "1 2 8:1 / / rw - ext4 a rw\n2 1 8:1 / / rw - ext4 a rw\n";
    assert_eq!(survives(Host::Machine, circle, "/x"), Survives::Unknown);
}

#[test]
fn a_link_is_followed_and_what_is_not_there_yet_lies_where_it_would_be_made() {
    let room = tempfile::tempdir().unwrap();
    let real = fs::canonicalize(room.path()).unwrap();
    fs::create_dir(real.join("volume")).unwrap();
    std::os::unix::fs::symlink(real.join("volume"), real.join("link")).unwrap();
    let table = format!(
        "1 0 8:1 / / rw - ext4 a rw\n2 1 0:9 / {} rw - tmpfs tmpfs rw\n",
        real.join("volume").display()
    );
    let ground = ground(Host::Machine, &table);
    let survives = |name: &str| ground.place("X", &real.join(name)).survives;
    assert_eq!(survives("link/not/there/yet"), Survives::Nothing);
    assert_eq!(survives("not/there/yet"), Survives::Replacement);
}

fn place(variable: &'static str, survives: Survives) -> Place {
    Place {
        variable,
        directory: PathBuf::from("/somewhere"),
        on: "a tmpfs".to_owned(),
        survives,
        void_sync: None,
    }
}

fn places(state: Survives, secrets: Survives, workspace: Survives) -> Places {
    Places {
        state: place("RUNNER_STATE_DIR", state),
        journal: None,
        secrets: place("RUNNER_SECRETS_DIR", secrets),
        workspace: place("RUNNER_WORKSPACE", workspace),
    }
}

#[test]
fn only_what_matters_is_said_with_what_comes_of_it_and_the_way_out() {
    use Survives::{Nothing, Replacement, Restarts, RestartsOfThisContainer as Layer};
    let said = |places: &Places, host, key, on_term| -> Vec<&'static str> {
        let losses = losses(places, host, key, on_term);
        losses.iter().map(|loss| loss.place.variable).collect()
    };
    let (state, secrets, workspace) = ("RUNNER_STATE_DIR", "RUNNER_SECRETS_DIR", "RUNNER_WORKSPACE");
    for (on, host, key, on_term, variables) in [
        (
            [Replacement; 3],
            Host::Container,
            Sealed::InSecrets,
            OnTerm::Park,
            &[][..],
        ),
        ([Layer; 3], Host::Container, Sealed::InSecrets, OnTerm::Park, &[]),
        (
            [Nothing; 3],
            Host::Container,
            Sealed::InSecrets,
            OnTerm::Report,
            &[state, secrets, workspace],
        ),
        (
            [Nothing; 3],
            Host::Machine,
            Sealed::InState,
            OnTerm::Report,
            &[state, workspace],
        ),
        (
            [Replacement, Nothing, Layer],
            Host::Container,
            Sealed::InSecrets,
            OnTerm::Report,
            &[secrets],
        ),
        (
            [Replacement, Nothing, Layer],
            Host::Container,
            Sealed::InState,
            OnTerm::Report,
            &[],
        ),
        ([Restarts; 3], Host::Kubernetes, Sealed::InSecrets, OnTerm::Report, &[]),
        (
            [Restarts; 3],
            Host::Kubernetes,
            Sealed::InSecrets,
            OnTerm::Park,
            &[state],
        ),
        (
            [Replacement, Restarts, Restarts],
            Host::Kubernetes,
            Sealed::InSecrets,
            OnTerm::Park,
            &[secrets],
        ),
        (
            [Replacement, Restarts, Restarts],
            Host::Kubernetes,
            Sealed::InState,
            OnTerm::Park,
            &[],
        ),
    ] {
        let [a, b, c] = on;
        let found = said(&places(a, b, c), host, key, on_term);
        assert_eq!(found, variables, "{on:?} {host:?} {key:?} {on_term:?}");
    }

    let all = places(Nothing, Nothing, Nothing);
    let losses = losses(&all, Host::Container, Sealed::InSecrets, OnTerm::Report);
    let said: Vec<String> = losses.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "the journal will not survive a restart of this container: RUNNER_STATE_DIR /somewhere is a tmpfs; \
                 the runner then knows nothing of its task; mount a volume there",
            "the one-time token will not survive a restart of this container: RUNNER_SECRETS_DIR /somewhere is \
                 a tmpfs; a task that has its token then fails with TokenLost; \
                 mount a volume there, or set RUNNER_SEAL_KEY_FILE",
            "the workspace will not survive a restart of this container: RUNNER_WORKSPACE /somewhere is a tmpfs; \
                 only what the agent has not finished is lost then",
        ]
    );
}

#[test]
fn a_key_moves_the_token_into_the_state_directory_and_its_fate_with_it() {
    let on_tmpfs = places(Survives::Nothing, Survives::Replacement, Survives::Replacement);
    let losses = losses(&on_tmpfs, Host::Container, Sealed::InState, OnTerm::Report);
    assert!(losses[0].then.contains("its sealed token is gone"), "{losses:?}");
}

#[test]
fn a_journal_elsewhere_is_looked_at_where_it_is() {
    let mut on_tmpfs = places(Survives::Nothing, Survives::Replacement, Survives::Replacement);
    on_tmpfs.journal = Some(place("RUNNER_JOURNAL", Survives::Replacement));
    let losses = losses(&on_tmpfs, Host::Container, Sealed::InSecrets, OnTerm::Report);
    assert_eq!(losses.len(), 1, "{losses:?}");
    assert!(losses[0].lost.contains("the private repository"), "{losses:?}");
}

#[test]
fn a_mount_whose_sync_is_void_is_said_for_the_journal_alone() {
    for (options, void) in [
        ("rw,lowerdir=/l,upperdir=/u,workdir=/w,volatile", Some("volatile")),
        (
            "rw,lowerdir=/l,upperdir=/u,workdir=/w,fsync=volatile",
            Some("fsync=volatile"),
        ),
        ("rw,barrier=0", Some("barrier=0")),
        ("rw,lowerdir=/volatile,upperdir=/u,workdir=/w", None),
    ] {
        let mount = Mount::parse(&format!("1 0 0:1 / / rw,relatime - overlay overlay {options}")).unwrap();
        assert_eq!(mount.void_sync, void, "{options}");
    }
    let said = |places: &Places| -> Vec<String> {
        let losses = losses(places, Host::Container, Sealed::InSecrets, OnTerm::Report);
        losses.iter().map(|loss| loss.lost.clone()).collect()
    };
    let mut layer = places(
        Survives::RestartsOfThisContainer,
        Survives::Replacement,
        Survives::Replacement,
    );
    layer.workspace.void_sync = Some("volatile");
    assert_eq!(said(&layer), Vec::<String>::new());
    layer.state.void_sync = Some("volatile");
    let lost = said(&layer);
    assert!(
        lost.len() == 1 && lost[0].ends_with("it is mounted volatile"),
        "{lost:?}"
    );
    layer.journal = Some(place("RUNNER_JOURNAL", Survives::Replacement));
    assert_eq!(said(&layer), Vec::<String>::new(), "the journal is elsewhere");
}
