//! What a container costs, as a table: printed, and never failed on.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::container::{INTERRUPTED_AGENT, Plan, image, podman_prints};
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

/// The image's size by what brought it. What has none of the marks is the base.
fn sizes() {
    let history: Value = serde_json::from_str(&podman_prints(&["history", "--format=json", &image()])).unwrap();
    let mut parts = [
        ("apt-get", "git, certificates, bash", 0),
        ("/usr/local/bin/claude", "Claude Code", 0),
        ("/usr/local/bin/runner", "runner", 0),
        ("", "Debian", 0),
    ];
    for layer in history.as_array().unwrap() {
        let by = layer["CreatedBy"].as_str().unwrap();
        let part = parts.iter_mut().find(|(mark, ..)| by.contains(mark)).unwrap();
        part.2 += layer["size"].as_u64().unwrap();
    }
    line("image", &mib(parts.iter().map(|(.., size)| size).sum()));
    for (_, part, size) in parts {
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
        memory.push((pss_kib(container.init()), pss_kib(container.serve())));
        container.stop(5);
    }
    line("podman start to /healthz", &ms(&mut starts));
    line("  of it after podman start has returned", &ms(&mut inside));
    memory.sort_unstable();
    let (init, serve) = memory[memory.len() / 2];
    line("idle memory (PSS): init", &mib(init * 1024));
    line("idle memory (PSS): serve", &mib(serve * 1024));
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
    sizes();
    healthy_after_start(&outside).await;
    resumed_after_kill().await;
}
