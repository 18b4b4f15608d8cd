//! What many runs have in common: the middle and the spread.

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The middle one; of an even number, the upper of both.
pub(crate) fn median(values: &[f64]) -> f64 {
    sorted(values).get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The least.
pub(crate) fn least(values: &[f64]) -> f64 {
    sorted(values).first().copied().unwrap_or(f64::NAN)
}

/// The greatest.
pub(crate) fn most(values: &[f64]) -> f64 {
    sorted(values).last().copied().unwrap_or(f64::NAN)
}

/// The one that so great a share of all are not above, such as 0.99.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let rank = (values.len() as f64 * share).ceil() as usize;
    sorted(values).get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
