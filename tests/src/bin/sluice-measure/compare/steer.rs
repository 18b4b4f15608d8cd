//! Whose processor works on what an interface receives: the receiver's, as if client, gateway and backend were machines, or
//! the sender's, as virtual interfaces have it.

use clap::ValueEnum;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Steer {
    /// The receiver's for bulk, the sender's for all else.
    ByMeasure,
    /// The receiver's.
    Always,
    /// The sender's.
    Never,
}

impl Steer {
    /// Whether it is the receiver's.
    pub(crate) fn to_receivers(self, is_bulk: bool) -> bool {
        match self {
            Self::ByMeasure => is_bulk,
            Self::Always => true,
            Self::Never => false,
        }
    }

    /// The flag of a command that measures so again.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::ByMeasure => "",
            Self::Always => " --steer always",
            Self::Never => " --steer never",
        }
    }
}
