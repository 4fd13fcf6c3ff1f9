//! No secret and nothing of the building machine in any layer, also where a later one takes it away again.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use runner::redact::{Kind, Redactor, Shape};
use runner::secret::Secret;
use serde_json::Value;
use tar::Archive;

use crate::container::{actions_image, image, podman_prints};

/// Names that only a person's or a building machine's directories have.
const PRIVATE: [&str; 18] = [
    ".aws",
    ".bash_history",
    ".cargo",
    ".config",
    ".docker",
    ".env",
    ".git",
    ".git-credentials",
    ".gitconfig",
    ".gnupg",
    ".kube",
    ".netrc",
    ".npm",
    ".npmrc",
    ".pypirc",
    ".ssh",
    "pip.conf",
    "root.crt",
];
/// Directories that may have nothing in them but directories and empty files: caches, and roots of trust that somebody added.
const EMPTY: [&str; 6] = [
    "root/.cache",
    "src",
    "usr/local/share/ca-certificates",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log/apt",
];
/// What looks like a secret and is none: how the file's name begins, or a directory that it is in, the looks, and why.
const KNOWN: [(&str, Shape, &str); 7] = [
    ("aws-cli/", Shape::Aws, "examples in what it knows of AWS"),
    ("node", Shape::Aws, "names of letters, in capitals"),
    ("libgnutls.so.", Shape::PrivateKey, "keys that it tests itself with"),
    ("libunistring.so.", Shape::Aws, "names of letters, in capitals"),
    ("claude", Shape::Anthropic, "examples in what it tells people"),
    ("gh", Shape::GitHub, "examples in its help"),
    ("gh", Shape::GitHubPat, "examples in its help"),
];

/// Knows the looks of secrets, and those that whoever builds has in the environment.
fn redactor() -> Redactor {
    let redactor = Redactor::new();
    let names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
    redactor.add_environment(&names, |name| std::env::var_os(name));
    redactor
}

/// What is wrong with a file of a layer.
fn wrong(path: &Path, bytes: &[u8], redactor: &Redactor) -> Vec<String> {
    let mut found = Vec::new();
    let is_private = |part: Component<'_>| PRIVATE.iter().any(|name| part.as_os_str() == *name);
    // A lock file has nothing in it.
    let is_left = !bytes.is_empty() && EMPTY.iter().any(|dir| path.starts_with(dir));
    if path.components().any(is_private) || is_left {
        found.push(format!("{}: must not be there", path.display()));
    }
    let text = String::from_utf8_lossy(if path.starts_with("etc") { bytes } else { b"" });
    if path.starts_with("etc/apt") && text.contains("Proxy") || text.contains("_proxy=") {
        found.push(format!("{}: a proxy", path.display()));
    }
    for finding in redactor.find(bytes) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_known = |(file, shape, _): &(&str, Shape, &str)| {
            let is_named = name == *file || file.ends_with('.') && name.starts_with(file);
            let is_below = file.ends_with('/') && path.starts_with(Path::new("usr/local").join(file));
            (is_named || is_below)
                && (path.starts_with("usr") || path.starts_with("opt"))
                && finding.kind == Kind::Shape(*shape)
        };
        // Addresses and headers with a password are in the examples of every manual.
        let is_example = matches!(finding.kind, Kind::Shape(Shape::Userinfo | Shape::Authorization));
        if !is_example && !KNOWN.iter().any(is_known) {
            found.push(format!("{}: {}", path.display(), finding.kind.name()));
        }
    }
    found
}

/// What is wrong in a layer, and how many files it has.
fn examine(layer: impl Read, redactor: &Redactor) -> (Vec<String>, usize) {
    let (mut found, mut files) = (Vec::new(), 0);
    for entry in Archive::new(layer).entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_dir() {
            continue;
        }
        files += 1;
        let path: PathBuf = entry
            .path()
            .unwrap()
            .components()
            .filter(|part| *part != Component::CurDir)
            .collect();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        found.extend(wrong(&path, &bytes, redactor));
    }
    (found, files)
}

/// What is wrong in an image, and how many layers and files were looked at. `known` are layers that were before, by their hash.
fn examine_image(image: &str, known: &mut BTreeSet<PathBuf>) -> (Vec<String>, usize, usize) {
    let mut save = Command::new("podman");
    save.args(["save", "--quiet", "--format=docker-archive", image]);
    let (found, layers, files) = examine_saved(&mut save, known);
    println!("{image}: {layers} layers with {files} files");
    (found, layers, files)
}

/// The same of what a command prints.
fn examine_saved(save: &mut Command, known: &mut BTreeSet<PathBuf>) -> (Vec<String>, usize, usize) {
    let mut saving = save.stdout(Stdio::piped()).spawn().unwrap();
    let mut saved = saving.stdout.take().unwrap();
    let redactor = redactor();
    let (mut found, mut layers, mut files) = (Vec::new(), 0, 0);
    for entry in Archive::new(&mut saved).entries().unwrap() {
        let entry = entry.unwrap();
        let is_file = entry.header().entry_type().is_file();
        let path = entry.path().unwrap().into_owned();
        if is_file && path.extension().is_some_and(|extension| extension == "tar") && known.insert(path) {
            let (wrong, in_it) = examine(entry, &redactor);
            found.extend(wrong);
            files += in_it;
            layers += 1;
        }
    }
    // Two empty blocks end an archive, and its reader stops at the first: whoever still writes the second must not die of it.
    io::copy(&mut saved, &mut io::sink()).unwrap();
    let ended = saving.wait().unwrap();
    assert!(ended.success(), "{save:?}: {ended}");
    (found, layers, files)
}

#[test]
fn no_layer_has_a_secret_or_anything_of_the_machine_that_built_it() {
    let mut known = BTreeSet::new();
    for image in [image(), actions_image()] {
        let (found, layers, files) = examine_image(&image, &mut known);
        assert!(
            layers >= 5 && files > 5_000,
            "{image}: {layers} layers with {files} files"
        );
        assert_eq!(found, [] as [String; 0], "{image}");
    }
}

/// The control of the test above.
#[test]
fn what_was_planted_in_a_layer_is_found() {
    let key = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC".repeat(8)
    );
    let planted: [(&str, &[u8]); 8] = [
        ("etc/passwd", b"root:x:0:0:root:/root:/bin/bash\n"),
        ("root/.npmrc", b"//registry.example/:_authToken=x\n"),
        ("src/.git/config", b""),
        (
            "etc/apt/apt.conf.d/99proxy",
            b"Acquire::http::Proxy \"http://proxy.example:3128\";\n",
        ),
        ("usr/local/share/ca-certificates/office.crt", b"a root of trust"),
        ("opt/key.pem", key.as_bytes()),
        ("opt/notes", b"token: ghp_0123456789abcdefghijABCDEFGHIJ456789 \n"),
        (
            "opt/own",
            b"what this machine alone knows: 0123456789-of-this-machine\n",
        ),
    ];
    let mut layer = tar::Builder::new(Vec::new());
    for (path, bytes) in planted {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len().try_into().unwrap());
        layer.append_data(&mut header, path, bytes).unwrap();
    }
    let redactor = Redactor::new();
    redactor.add(&Secret::new("0123456789-of-this-machine"));
    let (found, files) = examine(&layer.into_inner().unwrap()[..], &redactor);
    assert_eq!(files, planted.len());
    for (path, _) in &planted[1..] {
        assert!(found.iter().any(|wrong| wrong.starts_with(path)), "{path}: {found:?}");
    }
    assert!(!found.iter().any(|wrong| wrong.starts_with("etc/passwd")), "{found:?}");
}

#[test]
fn an_archive_is_read_to_the_end_of_what_is_written_and_not_of_what_is_in_it() {
    let mut save = Command::new("sh");
    save.args(["-c", "head -c 512 /dev/zero && sleep 0.2 && head -c 512 /dev/zero"]);
    assert_eq!(examine_saved(&mut save, &mut BTreeSet::new()), (Vec::new(), 0, 0));
}

#[test]
fn neither_the_configuration_nor_the_history_has_a_proxy_or_a_secret() {
    for image in [image(), actions_image()] {
        neither_of(&image);
    }
}

fn neither_of(image: &str) {
    let inspected = podman_prints(&["image", "inspect", image]);
    let config: Value = serde_json::from_str(&inspected).unwrap();
    let variables = config[0]["Config"]["Env"].as_array().unwrap();
    let names: Vec<&str> = variables
        .iter()
        .map(|v| v.as_str().unwrap().split('=').next().unwrap())
        .collect();
    assert_eq!(names, ["PATH", "HOME", "LANG"], "{variables:?}");
    let history = podman_prints(&["history", "--no-trunc", "--format=json", image]);
    for text in [inspected, history] {
        assert!(!text.to_lowercase().contains("_proxy"), "{text}");
        let found = redactor().find(text.as_bytes());
        assert_eq!(
            found.iter().map(|finding| finding.kind.name()).collect::<Vec<_>>(),
            [] as [&str; 0]
        );
    }
}
