//! Dollars in whole millionths, so that sums do not drift.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An amount of US dollars, in millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(u64);

/// Not an amount of dollars.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not an amount of dollars: 10, 2.5 or 0.000001 is")]
pub struct InvalidAmount(String);

impl MicroUsd {
    /// From millionths of a dollar.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// In millionths of a dollar.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// From what JSON has, rounded to the nearest millionth. `None` for what is no amount (negative, not finite).
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        // Through text, because it rounds without a cast that could cut.
        (dollars.is_finite() && dollars >= 0.0)
            .then(|| format!("{dollars:.6}").parse().ok())
            .flatten()
    }
}

impl fmt::Display for MicroUsd {
    /// Dollars with two to six decimals, without a sign: `10.00`, `0.060744`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:06}", self.0 % 1_000_000);
        let (cents, rest) = decimals.split_at(2);
        write!(f, "{}.{cents}{}", self.0 / 1_000_000, rest.trim_end_matches('0'))
    }
}

impl FromStr for MicroUsd {
    type Err = InvalidAmount;
    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let invalid = || InvalidAmount(text.to_owned());
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || decimals.len() > 6 || !digits(whole) || !digits(decimals) {
            return Err(invalid());
        }
        let micros = format!("{decimals:0<6}").parse::<u64>().map_err(|_| invalid())?;
        let whole: u64 = whole.parse().map_err(|_| invalid())?;
        whole
            .checked_mul(1_000_000)
            .and_then(|dollars| dollars.checked_add(micros))
            .map(Self)
            .ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_shown_without_drift() {
        for (text, micros, shown) in [
            ("10", 10_000_000, "10.00"),
            ("10.00", 10_000_000, "10.00"),
            ("0.5", 500_000, "0.50"),
            ("0.060744", 60_744, "0.060744"),
        ] {
            let amount: MicroUsd = text.parse().unwrap();
            assert_eq!((amount.micros(), amount.to_string().as_str()), (micros, shown));
        }
        assert_eq!(
            MicroUsd::from_dollars(1.260_000_000_000_000_2),
            Some(MicroUsd(1_260_000))
        );
        assert_eq!(MicroUsd::from_dollars(-0.1), None);
        assert_eq!(MicroUsd::from_dollars(f64::NAN), None);
        for text in ["", ".", "-1", "1e3", "1.0000001", "$1", "99999999999999999999"] {
            assert!(text.parse::<MicroUsd>().is_err(), "{text}");
        }
    }
}
