//! What an agent prints, however much, and however slowly the API hears of it: the task is completed, and the runner stays small.

use std::time::Duration;

use runner::embedded::faults::{Endpoint, Fault, Times};

use crate::harness::{Bench, Outside};

/// A result of a tool of 64 MiB in one line, 64 MiB of text in one line, and 500,000 short events.
const PRINTS: &str = r#"
cat > /dev/null
printf '{"type":"user","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"'
head -c 67108864 /dev/zero | tr '\0' x
printf '"}]}}\n'
head -c 67108864 /dev/zero | tr '\0' y
printf '\n'
seq 500000 | sed 's/.*/{"type":"assistant","message":{"id":"&","content":[{"type":"text","text":"word &"}]}}/'
echo the last word
echo change > change.txt
"#;

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_64_mib_and_half_a_million_short_ones_are_taken_in_less_than_64_mib_while_the_api_is_slow() {
    let outside = Outside::start().await;
    let slow = Fault::Delay(Duration::from_secs(2));
    outside.faults.inject(Endpoint::Events, slow, Times::Always);
    let bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", PRINTS);
    let mut serving = bench.start();
    let status = format!("/proc/{}/status", serving.pid());
    let peak = || {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    serving.assign(&outside.assignment()).await;
    // Looked at while it lives: the most that it ever had.
    let mut most = 0;
    let looks = async {
        loop {
            most = peak().unwrap_or(0).max(most);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        status = serving.wait() => assert_eq!(status.code(), Some(0), "{}", serving.log()),
        () = looks => {}
    }
    println!("{} MiB resident at most", most >> 10);
    assert!(most > 0 && most < 64 << 10, "{most} KiB");
    assert_eq!(outside.verdict()["event"], "completed");
    let body = outside.forge.pulls()[0].body.clone().unwrap();
    assert!(
        body.contains("the last word"),
        "all of it was read, as its end is what it said last: {body}"
    );
    assert!(!outside.counts().activities.is_empty(), "the API heard of it");
}
