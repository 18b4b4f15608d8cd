//! Response flags as a set, which is no more than a number on a request's way.

use std::fmt;

use super::super::ResponseFlag;

/// Flags, each once; shown in Envoy's form, `-` without any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

impl Flags {
    /// With these too.
    #[must_use]
    pub fn with(self, flags: &[ResponseFlag]) -> Self {
        flags.iter().fold(self, |set, flag| Self(set.0 | 1 << *flag as u32))
    }

    /// As a number of its own.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("-");
        }
        let raised = ResponseFlag::ALL.iter().filter(|flag| self.0 & 1 << **flag as u32 != 0);
        for (at, flag) in raised.enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{flag}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_is_shown_once_in_the_order_of_their_numbers() {
        assert_eq!(Flags::default().to_string(), "-");
        let both = [ResponseFlag::UpstreamRetryLimitExceeded, ResponseFlag::UpstreamConnectionFailure];
        assert_eq!(Flags::default().with(&both).with(&both).to_string(), "UF,URX");
        for (number, flag) in ResponseFlag::ALL.iter().enumerate() {
            assert_eq!(*flag as usize, number, "{flag}");
            assert_eq!(Flags::default().with(&[*flag]).to_string(), flag.to_string());
        }
    }
}
