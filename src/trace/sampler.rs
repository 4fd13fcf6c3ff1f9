//! Whether a task's spans are recorded, and what others are told of the trace.

use super::{SpanId, TaskTrace, Trace};

/// `OTEL_TRACES_SAMPLER`: which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampler {
    /// `always_on`.
    AlwaysOn,
    /// `always_off`.
    AlwaysOff,
    /// `traceidratio`: this part of them, by their ids.
    Ratio(f64),
    /// `parentbased_…`: as the operator decided, where it sent a trace; else one of the above.
    ParentBased(Root),
}

/// How a parent-based sampler decides of a trace that begins here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Root {
    /// `parentbased_always_on`, OpenTelemetry's default.
    AlwaysOn,
    /// `parentbased_always_off`.
    AlwaysOff,
    /// `parentbased_traceidratio`.
    Ratio(f64),
}

impl Sampler {
    fn samples(self, trace: &TaskTrace) -> bool {
        const SAMPLED: u8 = 1;
        match (self, trace.operators()) {
            (Self::AlwaysOn, _) | (Self::ParentBased(Root::AlwaysOn), None) => true,
            (Self::AlwaysOff, _) | (Self::ParentBased(Root::AlwaysOff), None) => false,
            (Self::Ratio(ratio), _) | (Self::ParentBased(Root::Ratio(ratio)), None) => within(ratio, trace),
            (Self::ParentBased(_), Some(operators)) => operators.flags() & SAMPLED != 0,
        }
    }
}

/// By the last 7 bytes of the id, which are random where anything of it is (W3C Trace Context, level 2).
fn within(ratio: f64, trace: &TaskTrace) -> bool {
    let mut drawn = [0; 8];
    drawn[1..].copy_from_slice(&trace.id().0[9..]);
    let drawn = u64::from_be_bytes(drawn);
    #[expect(
        clippy::cast_precision_loss,
        reason = "it has 56 bits, and a share needs no more than 53"
    )]
    let share = drawn as f64 / (1_u64 << 56) as f64;
    share < ratio
}

/// What is done about a task's trace.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Sampling {
    /// Nothing is recorded: the operator's context goes on as it came, since a span of ours is nowhere to be found.
    #[default]
    PassOn,
    /// What the sampler takes is recorded, and others are told of our spans.
    Record(Sampler),
}

impl Sampling {
    /// Whether the spans of this trace are recorded.
    pub fn records(self, trace: &TaskTrace) -> bool {
        match self {
            Self::PassOn => false,
            Self::Record(sampler) => sampler.samples(trace),
        }
    }

    /// What is started in this span is told of the trace. None where there is nothing to be found under any name.
    pub fn context(self, trace: &TaskTrace, span: SpanId) -> Option<Trace> {
        if self.records(trace) {
            Some(trace.context(span, true))
        } else {
            trace.operators().cloned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Assignment;

    fn trace(parent: Option<&str>) -> TaskTrace {
        let assignment = Assignment {
            task_id: "t-1".parse().unwrap(),
            api_url: "http://api:8081".parse().unwrap(),
            trace: parent.map(|parent| Trace::parse(parent, None).unwrap()),
        };
        TaskTrace::of(&assignment, 5)
    }

    const YES: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const NO: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    #[test]
    fn what_is_not_recorded_goes_on_as_it_came() {
        let given = trace(Some(NO));
        for sampling in [
            Sampling::PassOn,
            Sampling::Record(Sampler::ParentBased(Root::AlwaysOn)),
            Sampling::Record(Sampler::AlwaysOff),
        ] {
            assert_eq!(sampling.context(&given, given.boot(1)).unwrap().parent(), NO);
            assert!(!sampling.records(&given));
        }
        assert_eq!(Sampling::PassOn.context(&trace(None), SpanId([1; 8])), None);
    }

    #[test]
    fn what_is_recorded_is_told_of_by_our_spans() {
        let (yes, own) = (trace(Some(YES)), trace(None));
        let sampling = Sampling::Record(Sampler::ParentBased(Root::AlwaysOn));
        for trace in [&yes, &own] {
            let context = sampling.context(trace, trace.boot(2)).unwrap();
            assert_eq!((context.trace_id(), context.span_id()), (trace.id(), trace.boot(2)));
            assert_eq!(context.flags() & 1, 1);
        }
        let operators_word = Sampling::Record(Sampler::ParentBased(Root::AlwaysOff));
        assert!(operators_word.records(&yes) && !operators_word.records(&own));
        let all_of_them = Sampling::Record(Sampler::AlwaysOn);
        assert!(all_of_them.records(&trace(Some(NO))));
    }

    #[test]
    fn a_ratio_takes_its_share() {
        // The last seven bytes of its id are ce 92 9d 0e 0e 47 36: 0.807 of all there are.
        let given = trace(Some(YES));
        assert!(Sampler::Ratio(0.81).samples(&given) && !Sampler::Ratio(0.80).samples(&given));
        let share = |ratio| Sampler::ParentBased(Root::Ratio(ratio)).samples(&trace(None));
        assert!(share(1.0) && !share(0.0));
    }
}
