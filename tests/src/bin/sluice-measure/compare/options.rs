//! Flags that all comparisons have.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use harness::peers::Contender;

use super::Column;

/// A kind of work; may be chosen alone.
pub(crate) trait Kind: ValueEnum + std::fmt::Debug + Copy + PartialEq + Send + Sync + 'static {
    /// Its columns, in the order of tables and plots.
    fn columns(self) -> &'static [Column];
}

/// What to compare in what, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Chosen<C: Contender, K: Kind> {
    /// Contenders to compare, separated by commas. Default: all.
    #[arg(long, value_delimiter = ',')]
    only: Vec<C>,
    /// What to measure, separated by commas. Default: everything.
    #[arg(long, value_delimiter = ',')]
    measures: Vec<K>,
    /// Seconds of each measurement, of each contender, in each round.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
    /// Directory of the table, the JSON and the plot. Default: bench below the target directory.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl<C: Contender, K: Kind> Chosen<C, K> {
    /// In the order of tables.
    pub(crate) fn contenders(&self) -> Vec<C> {
        chosen(&self.only)
    }

    /// In the order of tables.
    pub(crate) fn measures(&self) -> Vec<K> {
        chosen(&self.measures)
    }

    /// Of each measurement.
    pub(crate) fn length(&self) -> Result<Duration> {
        ensure!((0.1..=60.0).contains(&self.seconds), "--seconds must be between 0.1 and 60");
        Ok(Duration::from_secs_f64(self.seconds))
    }

    /// Where files go; it is there when this returns.
    pub(crate) fn out(&self) -> Result<PathBuf> {
        let own = std::env::current_exe()?;
        let target = own.ancestors().nth(2).context("this program lies in no target directory")?;
        let out = self.out.clone().unwrap_or_else(|| target.join("bench"));
        std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
        Ok(out)
    }

    /// The command that measures the same again, without flags of the comparison's own.
    pub(crate) fn command(&self, name: &str, rounds: usize, measures: &[K]) -> String {
        let mut text = format!("cargo xtask bench {name} --rounds {rounds} --seconds {}", self.seconds);
        for (flag, words) in [("only", words(&self.contenders())), ("measures", words(measures))] {
            if let Some(words) = words {
                let _ = write!(text, " --{flag} {words}");
            }
        }
        text
    }
}

/// All if none is named.
fn chosen<V: ValueEnum + Copy + PartialEq>(named: &[V]) -> Vec<V> {
    V::value_variants().iter().copied().filter(|value| named.is_empty() || named.contains(value)).collect()
}

/// As on the command line; none where all are meant.
fn words<V: ValueEnum>(values: &[V]) -> Option<String> {
    let words: Vec<_> = values.iter().map(word).collect();
    (values.len() < V::value_variants().len()).then(|| words.join(","))
}

/// As on the command line.
pub(crate) fn word<V: ValueEnum>(value: &V) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
    enum Three {
        First,
        SecondOne,
        Third,
    }

    #[test]
    fn all_are_chosen_unless_some_are_named_and_order_stays() {
        use Three::{First, SecondOne, Third};
        assert_eq!(chosen::<Three>(&[]), [First, SecondOne, Third]);
        assert_eq!(chosen(&[Third, First]), [First, Third]);
        assert_eq!(words(&[First, SecondOne]).as_deref(), Some("first,second-one"));
        assert_eq!(words(&[First, SecondOne, Third]), None);
    }
}
