//! Situations, and the rules that fire in each.

/// A situation: what is so at which minute, beside what a healthy run shows, and which rules fire then.
pub(super) struct Case {
    pub(super) series: &'static [(&'static str, &'static str)],
    pub(super) minute: u32,
    pub(super) fire: &'static [&'static str],
}

/// One for each rule at least; just below each bound, it does not fire.
pub(super) const CASES: &[Case] = &[
    Case {
        series: &[],
        minute: 120,
        fire: &[],
    },
    Case {
        series: &[(r#"runner_verdict{event="failed",reason="CloneFailed",X}"#, "1")],
        minute: 5,
        fire: &["RunnerTaskFailed"],
    },
    Case {
        series: &[
            (
                r#"runner_verdict{event="failed",reason="CloneFailed",job="runner",instance="b"}"#,
                "1",
            ),
            (
                r#"runner_verdict{event="failed",reason="CloneFailed",job="runner",instance="c"}"#,
                "1",
            ),
            (
                r#"runner_verdict{event="failed",reason="NoChanges",job="runner",instance="d"}"#,
                "1",
            ),
        ],
        minute: 40,
        fire: &[],
    },
    Case {
        series: &[
            (
                r#"runner_verdict{event="failed",reason="CloneFailed",job="runner",instance="b"}"#,
                "1",
            ),
            (
                r#"runner_verdict{event="failed",reason="CloneFailed",job="runner",instance="c"}"#,
                "1",
            ),
            (
                r#"runner_verdict{event="failed",reason="CloneFailed",job="runner",instance="d"}"#,
                "1",
            ),
        ],
        minute: 40,
        fire: &["RunnerTasksFailAlike"],
    },
    Case {
        series: &[("runner_stalled_boots{X}", "2x120")],
        minute: 60,
        fire: &[],
    },
    Case {
        series: &[("runner_stalled_boots{X}", "3x120")],
        minute: 60,
        fire: &["RunnerCrashLoopComing"],
    },
    Case {
        series: &[
            (r#"runner_state{state="TokenIssued",X}"#, "1x120"),
            (r#"runner_state{state="Reported",X}"#, "0x120"),
            (
                r#"runner_state_entered_timestamp_seconds{state="TokenIssued",X}"#,
                "60x120",
            ),
        ],
        minute: 15,
        fire: &[],
    },
    Case {
        series: &[
            (r#"runner_state{state="TokenIssued",X}"#, "1x120"),
            (r#"runner_state{state="Reported",X}"#, "0x120"),
            (
                r#"runner_state_entered_timestamp_seconds{state="TokenIssued",X}"#,
                "60x120",
            ),
        ],
        minute: 17,
        fire: &["RunnerStuck"],
    },
    Case {
        series: &[
            (r#"runner_state{state="Cloned",X}"#, "1x120"),
            (r#"runner_state{state="Reported",X}"#, "0x120"),
            (r#"runner_state_entered_timestamp_seconds{state="Cloned",X}"#, "0x120"),
        ],
        minute: 59,
        fire: &[],
    },
    Case {
        series: &[
            (r#"runner_state{state="Cloned",X}"#, "1x120"),
            (r#"runner_state{state="Reported",X}"#, "0x120"),
            (r#"runner_state_entered_timestamp_seconds{state="Cloned",X}"#, "0x120"),
        ],
        minute: 61,
        fire: &["RunnerStuck"],
    },
    // An Actions runner that waits for a job, and one that is over and not gone yet.
    Case {
        series: &[
            (r#"runner_state{state="Registered",X}"#, "1x120"),
            (
                r#"runner_state_entered_timestamp_seconds{state="Registered",X}"#,
                "0x120",
            ),
        ],
        minute: 90,
        fire: &[],
    },
    Case {
        series: &[
            (r#"runner_state{state="Deregistered",X}"#, "1x120"),
            (
                r#"runner_state_entered_timestamp_seconds{state="Deregistered",X}"#,
                "0x120",
            ),
        ],
        minute: 90,
        fire: &[],
    },
    Case {
        series: &[
            (r#"runner_state{state="JobRan",X}"#, "1x120"),
            (r#"runner_state_entered_timestamp_seconds{state="JobRan",X}"#, "0x120"),
        ],
        minute: 17,
        fire: &["RunnerStuck"],
    },
    Case {
        series: &[
            (r#"runner_verdict_acknowledged{event="completed",X}"#, "0x120"),
            (r#"runner_verdict_timestamp_seconds{event="completed",X}"#, "60x120"),
        ],
        minute: 10,
        fire: &[],
    },
    Case {
        series: &[
            (r#"runner_verdict_acknowledged{event="completed",X}"#, "0x120"),
            (r#"runner_verdict_timestamp_seconds{event="completed",X}"#, "60x120"),
        ],
        minute: 12,
        fire: &["RunnerVerdictNotAcknowledged"],
    },
    // Gone at the third minute.
    Case {
        series: &[(r#"runner_verdict_acknowledged{event="completed",X}"#, "0 0 0 stale")],
        minute: 10,
        fire: &[],
    },
    Case {
        series: &[(r#"runner_verdict_acknowledged{event="completed",X}"#, "0 0 0 stale")],
        minute: 15,
        fire: &["RunnerVerdictUndelivered"],
    },
    // Started again, and delivered.
    Case {
        series: &[(
            r#"runner_verdict_acknowledged{event="completed",X}"#,
            "0 0 0 stale _ _ _ 1 stale",
        )],
        minute: 30,
        fire: &[],
    },
    Case {
        series: &[("runner_agent_spent_usd{X}", "9x120")],
        minute: 60,
        fire: &[],
    },
    Case {
        series: &[("runner_agent_spent_usd{X}", "9.01x120")],
        minute: 60,
        fire: &["RunnerBudgetNearlyUsed"],
    },
    Case {
        series: &[(
            r#"runner_agent_model_requests_total{model="other",usage="known",X}"#,
            "1x120",
        )],
        minute: 60,
        fire: &["RunnerModelUnpriced"],
    },
    Case {
        series: &[("runner_out_of_memory_kills_total{X}", "0 0 2 stale")],
        minute: 10,
        fire: &["RunnerOutOfMemory"],
    },
    Case {
        series: &[(r#"runner_events_total{result="dropped",X}"#, "0 0 7 stale")],
        minute: 10,
        fire: &["RunnerEventsDropped"],
    },
    Case {
        series: &[
            ("runner_journal_sync_duration_seconds_sum{X}", "5x120"),
            ("runner_journal_sync_duration_seconds_count{X}", "20x120"),
        ],
        minute: 60,
        fire: &[],
    },
    Case {
        series: &[
            ("runner_journal_sync_duration_seconds_sum{X}", "5.1x120"),
            ("runner_journal_sync_duration_seconds_count{X}", "20x120"),
        ],
        minute: 60,
        fire: &["RunnerJournalSlow"],
    },
    Case {
        series: &[(r#"runner_journal_appends_total{result="failed",X}"#, "0 0 1 stale")],
        minute: 10,
        fire: &["RunnerJournalFailed"],
    },
    Case {
        series: &[(
            r#"runner_effect_failures_total{effect="clone",reason="DiskFull",X}"#,
            "1 stale",
        )],
        minute: 10,
        fire: &["RunnerJournalFailed"],
    },
    Case {
        series: &[(r#"runner_sandbox_right{right="signals",X}"#, "0x120")],
        minute: 60,
        fire: &["RunnerSandboxNotInForce"],
    },
    Case {
        series: &[(
            r#"runner_otlp_exports_total{signal="traces",result="failed",X}"#,
            "5x120",
        )],
        minute: 60,
        fire: &[],
    },
    Case {
        series: &[(
            r#"runner_otlp_exports_total{signal="traces",result="failed",X}"#,
            "6x120",
        )],
        minute: 60,
        fire: &["RunnerTelemetryDropped"],
    },
    Case {
        series: &[(r#"runner_otlp_dropped_items_total{signal="logs",X}"#, "0 1x120")],
        minute: 60,
        fire: &["RunnerTelemetryDropped"],
    },
    Case {
        series: &[("up{X}", "1 1 0x120")],
        minute: 3,
        fire: &[],
    },
    Case {
        series: &[("up{X}", "1 1 0x120")],
        minute: 5,
        fire: &["RunnerDown"],
    },
];
