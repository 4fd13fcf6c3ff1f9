//! What a container costs, as a table: printed, and never failed on.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::actions::{Runner, WAITS};
use crate::container::{INTERRUPTED_AGENT, Plan, actions_image, hardened, image, named_by, podman_prints};
use crate::outside::Outside;

const ROUNDS: usize = 5;

fn ms(durations: &mut [Duration]) -> String {
    durations.sort_unstable();
    let of = |d: Option<&Duration>| d.map_or(0.0, |d| d.as_secs_f64() * 1e3);
    format!(
        "{:.0} ms (median of {}; {:.0} to {:.0})",
        of(durations.get(durations.len() / 2)),
        durations.len(),
        of(durations.first()),
        of(durations.last())
    )
}

fn line(what: &str, figure: &str) {
    println!("{what:<52} {figure}");
}

/// Private memory of a process and its proportional share of the rest, in KiB.
fn pss_kib(pid: i32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    pss.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

fn mib(bytes: u64) -> String {
    let tenths = bytes * 10 / 1_048_576;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// The parts that Debian's packages are, by a mark in what made their layer.
const PACKAGES: [(&str, &str); 4] = [
    ("JOB_TOOLS=", "Python, ICU, curl, zip and others"),
    ("COMPILERS= /bin/sh", ""),
    ("COMPILERS=", "g++, gcc, libc6-dev, pkgconf"),
    ("TOOLS=", "git, certificates, make, ripgrep"),
];
/// The other parts, by where they are.
const FILES: [(&str, &str); 17] = [
    ("/opt/actions-runner", "Actions runner"),
    ("/usr/local/aws-cli", "AWS CLI"),
    ("/usr/local/aws-docs", "aws-docs' server"),
    ("/usr/local/bin/docker", "Docker CLI"),
    ("/usr/local/bin/helm", "Helm"),
    ("/usr/local/bin/kubectl", "kubectl"),
    ("/usr/local/bin/node", "Node"),
    ("/usr/local/bin/terraform", "Terraform"),
    ("/usr/local/lib/node_modules/npm", "npm"),
    ("/usr/local/lib/node_modules/terraform-mcp-server", "terraform's server"),
    ("/usr/local/libexec/docker", "Compose and buildx"),
    ("/usr/local/bin/claude", "Claude Code"),
    ("/usr/local/go", "Go"),
    ("/usr/local/bin/gh", "gh"),
    ("/usr/local/bin/runner", "runner"),
    ("/usr/local/bin/yq", "yq"),
    ("/usr/local/bin/jq", "jq"),
];

/// The image's size by what brought it: layers and files, uncompressed. The rest is the base.
fn sizes(image: &str) {
    let history: Value =
        serde_json::from_str(&podman_prints(&["history", "--no-trunc", "--format=json", image])).unwrap();
    let layers: Vec<(&str, u64)> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| (layer["CreatedBy"].as_str().unwrap(), layer["size"].as_u64().unwrap()))
        .collect();
    let total: u64 = layers.iter().map(|(_, size)| size).sum();
    let mut parts: Vec<(u64, &str)> = Vec::new();
    for (by, size) in &layers {
        // The first that fits: a layer of compilers was made with the variable of the tools as well.
        if let Some((_, part)) = PACKAGES
            .iter()
            .find(|(mark, _)| by.starts_with('|') && by.contains(mark))
        {
            parts.push((*size, part));
        }
    }
    let du = format!("du -sb {} 2> /dev/null || true", FILES.map(|(path, _)| path).join(" "));
    for line in hardened(image, "1001:1001", &du).lines() {
        let (bytes, path) = line.split_once('\t').unwrap();
        let (_, part) = FILES.iter().find(|(known, _)| *known == path).unwrap();
        parts.push((bytes.parse().unwrap(), part));
    }
    // What was left out leaves a directory or two.
    parts.retain(|(size, _)| *size > 100_000);
    let rest = total - parts.iter().map(|(size, _)| size).sum::<u64>();
    parts.push((rest, "Debian"));
    parts.sort_unstable_by_key(|(size, _)| std::cmp::Reverse(*size));
    line(image, &mib(total));
    for (size, part) in parts {
        line(&format!("  {part}"), &mib(size));
    }
}

async fn healthy_after_start(outside: &Outside) {
    let mut starts = Vec::new();
    let mut inside = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..ROUNDS {
        let container = Plan::hardened(outside).create();
        let begun = container.start();
        let started = Instant::now();
        let healthy = container.healthy().await;
        starts.push(healthy - begun);
        inside.push(healthy.saturating_duration_since(started));
        memory.push((pss_kib(container.init()), pss_kib(container.runner())));
        container.stop(5);
    }
    line("podman start to /healthz", &ms(&mut starts));
    line("  of it after podman start has returned", &ms(&mut inside));
    memory.sort_unstable();
    let (init, serve) = memory[memory.len() / 2];
    line("idle memory (PSS): init", &mib(init * 1024));
    line("idle memory (PSS): serve", &mib(serve * 1024));
}

async fn registered_after_start() {
    let mut registered = Vec::new();
    let mut memory = Vec::new();
    for round in 0..ROUNDS {
        let runner = Runner::new(&format!("figures-{round}"), &WAITS).await;
        let begun = runner.container.start();
        registered.push(runner.is_registered().await - begun);
        // When the listener waits for a job.
        runner.is_online().await;
        memory.push((pss_kib(runner.container.init()), pss_kib(runner.container.runner())));
    }
    line(
        "podman start to registered (a GitHub on this machine)",
        &ms(&mut registered),
    );
    memory.sort_unstable();
    let (init, runner) = memory[memory.len() / 2];
    line("idle memory (PSS) of an Actions runner: init", &mib(init * 1024));
    line("  runner actions, without GitHub's listener", &mib(runner * 1024));
}

async fn resumed_after_kill() {
    let mut healthy = Vec::new();
    let mut agent = Vec::new();
    let mut whole = Vec::new();
    for _ in 0..ROUNDS {
        for kill_the_container in [false, true] {
            let outside = Outside::start().await;
            let plan = Plan::hardened(&outside).with_command(INTERRUPTED_AGENT);
            let container = plan.in_mid_agent(&outside).await;
            if kill_the_container {
                let begun = Instant::now();
                container.kill();
                container.start();
                whole.push(container.agent_started(2).await - begun);
            } else {
                let killed = container.kill_serve();
                healthy.push(container.healthy().await - killed);
                agent.push(container.agent_started(2).await - killed);
            }
            assert_eq!(container.wait(), 0, "{}", container.logs());
        }
    }
    line("SIGKILL of serve to /healthz", &ms(&mut healthy));
    line("SIGKILL of serve to the resumed agent", &ms(&mut agent));
    line("podman kill and start to the resumed agent", &ms(&mut whole));
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_of_a_container() {
    let outside = Outside::start().await;
    println!();
    for image in [
        image(),
        actions_image(),
        named_by("RUNNER_TEST_IMAGE_SMALL"),
        named_by("RUNNER_TEST_IMAGE_OWN"),
    ] {
        sizes(&image);
    }
    healthy_after_start(&outside).await;
    registered_after_start().await;
    resumed_after_kill().await;
}
