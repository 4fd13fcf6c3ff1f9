//! The clock: a wrong one fails every certificate, and takes a token for one that has ended.

use jiff::Timestamp;

use super::{Check, CheckName};

/// When the source of this binary is from, in Unix seconds (`build.rs`).
const SOURCE: &str = env!("RUNNER_SOURCE_SECONDS");

pub(super) fn check() -> Check {
    let source = SOURCE
        .parse()
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    judge(Timestamp::now(), source.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// No build runs before its source was written.
fn judge(now: Timestamp, source: Timestamp) -> Check {
    let found = format!("{now:.0}");
    if now < source {
        Check::warn(
            CheckName::Clock,
            format!("{found}, and this program is from {source:.0}"),
            "set the clock: certificates and tokens are held against it",
        )
    } else {
        Check::ok(CheckName::Clock, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn a_clock_before_the_source_is_wrong_and_no_other_is_known_to_be() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let source = at("2026-05-01T00:00:00Z");
        let wrong = judge(at("1970-01-01T00:00:07Z"), source);
        assert_eq!(wrong.status, Status::Warn);
        assert_eq!(
            wrong.found,
            "1970-01-01T00:00:07Z, and this program is from 2026-05-01T00:00:00Z"
        );
        assert_eq!(judge(source, source).status, Status::Ok);
        assert_eq!(judge(at("2027-01-01T00:00:00Z"), source).status, Status::Ok);
        assert_eq!(check().status, Status::Ok);
    }
}
