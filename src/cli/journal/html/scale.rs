//! Where a moment is on the timeline.
//!
//! To scale, a push of 40 ms beside an agent of 20 minutes could not be seen, and neither beside a night in which nothing
//! ran. So each span between two things that happened is as wide as the square root of its length, no span is narrower than
//! can be seen, and one in which nothing was under way is never wider than a part of the whole.

use crate::machine::Millis;

/// A span in which nothing was under way is at most this part of all in which something was.
const PAUSE: f64 = 0.2;
/// The narrowest span, as a part of an even share.
const NARROWEST: f64 = 0.35;

/// Moments, and where each is: in percent.
pub(super) struct Scale {
    moments: Vec<(Millis, f64)>,
}

impl Scale {
    /// From what was under way, each from when to when. `further` are moments at which something else happened.
    pub(super) fn of(spans: &[(Millis, Millis)], further: impl IntoIterator<Item = Millis>) -> Self {
        let mut moments: Vec<Millis> = spans
            .iter()
            .flat_map(|(from, to)| [*from, *to])
            .chain(further)
            .collect();
        moments.sort_unstable();
        moments.dedup();
        let pairs: Vec<(Millis, Millis)> = moments.iter().copied().zip(moments.iter().copied().skip(1)).collect();
        let busy = |(from, to): (Millis, Millis)| spans.iter().any(|(begun, ended)| *begun <= from && *ended >= to);
        let roots: Vec<(f64, bool)> = pairs.iter().map(|pair| (root(pair.1 - pair.0), busy(*pair))).collect();
        let worked: f64 = roots.iter().filter(|(_, busy)| *busy).map(|(root, _)| root).sum();
        let most = (worked * PAUSE).max(1.0);
        let widths: Vec<f64> = roots
            .iter()
            .map(|(root, busy)| if *busy { *root } else { root.min(most) })
            .collect();
        let share = widths.iter().sum::<f64>() / count(widths.len());
        let widths: Vec<f64> = widths.iter().map(|width| width.max(share * NARROWEST)).collect();
        let whole: f64 = widths.iter().sum();
        let mut at = 0.0;
        let mut placed = vec![(moments.first().copied().unwrap_or(0), 0.0)];
        for (moment, width) in moments.iter().skip(1).zip(widths) {
            at += width;
            placed.push((*moment, 100.0 * at / whole));
        }
        Self { moments: placed }
    }

    /// Where a moment is, in percent of the width.
    pub(super) fn at(&self, moment: Millis) -> f64 {
        let after = self.moments.partition_point(|(known, _)| *known < moment);
        let found = self.moments.get(after).or(self.moments.last());
        found.map_or(0.0, |(_, at)| *at)
    }

    /// Moments that are far enough from each other to have their times written below them: `apart` in percent.
    pub(super) fn ticks(&self, apart: f64) -> Vec<(Millis, f64)> {
        let mut ticks: Vec<(Millis, f64)> = Vec::new();
        for (moment, at) in &self.moments {
            if ticks.last().is_none_or(|(_, last)| at - last >= apart) {
                ticks.push((*moment, *at));
            }
        }
        ticks
    }
}

fn root(ms: Millis) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a width on a screen")]
    let ms = ms.max(0) as f64;
    ms.sqrt()
}

fn count(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::MAX, f64::from).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_keep_their_order_and_fill_the_width() {
        let spans = [(0, 4), (4, 150), (150, 1_500_150), (1_500_150, 1_500_190)];
        let scale = Scale::of(&spans, []);
        let at: Vec<f64> = [0, 4, 150, 1_500_150, 1_500_190]
            .map(|moment| scale.at(moment))
            .to_vec();
        assert!(at.is_sorted() && at[0] == 0.0 && (at[4] - 100.0).abs() < 1e-9, "{at:?}");
        // 40 ms beside 25 minutes can be seen, and the 25 minutes are still the most of it.
        assert!(at[4] - at[3] > 2.0, "{at:?}");
        assert!(at[3] - at[2] > 70.0, "{at:?}");
    }

    #[test]
    fn a_night_in_which_nothing_ran_does_not_hide_what_did() {
        let night = 8 * 3_600_000;
        let scale = Scale::of(&[(0, 1_000), (night, night + 1_000)], []);
        assert!(scale.at(1_000) > 25.0 && scale.at(night) < 75.0, "{:?}", scale.moments);
    }

    #[test]
    fn one_moment_or_none_is_no_trouble() {
        assert!(Scale::of(&[], []).at(5) <= 0.0);
        assert!(Scale::of(&[(7, 7)], [7]).at(7) <= 0.0);
    }

    #[test]
    fn ticks_are_apart() {
        let spans: Vec<(Millis, Millis)> = (0..100).map(|at| (at * 10, at * 10 + 10)).collect();
        let ticks = Scale::of(&spans, []).ticks(14.0);
        assert!(ticks.windows(2).all(|pair| pair[1].1 - pair[0].1 >= 14.0), "{ticks:?}");
        assert!(ticks.len() > 5, "{ticks:?}");
    }
}
