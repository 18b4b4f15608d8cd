//! The buckets of histograms.

/// Upper bounds of a histogram's buckets, lowest first, in the metric's unit; beyond the last there is `+Inf`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds(pub &'static [f64]);

/// Envoy's, which Istio's histograms have, of milliseconds and of bytes alike.
pub(super) const ISTIO: Bounds = Bounds(&[
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
]);

/// Buckets of [`ISTIO`], `+Inf` among them.
pub(super) const ISTIO_BUCKETS: usize = ISTIO.0.len() + 1;

impl Bounds {
    /// Those of Istio's histograms, in milliseconds or bytes.
    pub fn istio() -> Self {
        ISTIO
    }

    /// The bucket that a value is in: the first whose bound it does not go beyond.
    pub fn bucket(self, value: f64) -> usize {
        self.0.iter().position(|bound| value <= *bound).unwrap_or(self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_in_its_own_bucket() {
        for (value, bucket) in
            [(0.0, 0), (0.5, 0), (0.51, 1), (1.0, 1), (5.0, 2), (3_600_000.0, 18), (3_600_001.0, 19)]
        {
            assert_eq!(ISTIO.bucket(value), bucket, "{value}");
        }
    }
}
