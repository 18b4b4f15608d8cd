//! Points at which a test has the agent die while it hands a connection over: `SLUICE_DIE_AT=activated`, or
//! `SLUICE_DIE_AT=activated:3` for the third time that it comes there. Only in builds with debug assertions; in others
//! nothing of it is left.

use super::Connection;

/// What has just been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The flow is in the table, frozen.
    Entered,
    /// All that the sockets had received is read.
    Drained,
    /// A socket is in repair mode.
    InRepair,
    /// A socket's numbers are read.
    NumbersRead,
    /// A socket is out of repair mode.
    OutOfRepair,
    /// The translation is written.
    Translated,
    /// The flow goes on by the programs.
    Activated,
    /// A socket was given a part of the rest.
    PartSent,
    /// The sockets were given all of it.
    RestSent,
    /// One socket is withdrawn.
    OneWithdrawn,
    /// Both are.
    BothWithdrawn,
}

/// See the module.
#[inline]
pub(super) fn reached(step: Step) {
    #[cfg(debug_assertions)]
    armed::die_at(step);
    #[cfg(not(debug_assertions))]
    let _ = step;
}

/// How much of a rest is sent at once: all, unless the agent is to die with a part sent.
#[inline]
pub(super) fn portion(rest: &[u8]) -> &[u8] {
    #[cfg(debug_assertions)]
    if armed::is_to_die_at(&[Step::PartSent]) {
        return rest.get(..rest.len().div_ceil(2)).unwrap_or(rest);
    }
    rest
}

/// Waits until there will be a rest, if the agent is to die over one: between two turns of a relay little comes.
#[inline]
pub(super) fn await_rest(connection: &Connection) {
    #[cfg(debug_assertions)]
    if connection.to_backend.is_empty()
        && connection.to_client.is_empty()
        && armed::is_to_die_at(&[Step::PartSent, Step::RestSent])
    {
        armed::await_bytes(&connection.client);
    }
    #[cfg(not(debug_assertions))]
    let _ = connection;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use nix::sys::signal::{Signal, raise};
    use tokio::net::TcpStream;

    use super::Step;
    use crate::net::repair;

    /// A peer that says nothing for so long has nothing to say.
    const SILENCE: Duration = Duration::from_secs(1);

    impl Step {
        const ALL: [Self; 11] = [
            Self::Entered,
            Self::Drained,
            Self::InRepair,
            Self::NumbersRead,
            Self::OutOfRepair,
            Self::Translated,
            Self::Activated,
            Self::PartSent,
            Self::RestSent,
            Self::OneWithdrawn,
            Self::BothWithdrawn,
        ];

        fn name(self) -> &'static str {
            match self {
                Self::Entered => "entered",
                Self::Drained => "drained",
                Self::InRepair => "in-repair",
                Self::NumbersRead => "numbers-read",
                Self::OutOfRepair => "out-of-repair",
                Self::Translated => "translated",
                Self::Activated => "activated",
                Self::PartSent => "part-sent",
                Self::RestSent => "rest-sent",
                Self::OneWithdrawn => "one-withdrawn",
                Self::BothWithdrawn => "both-withdrawn",
            }
        }
    }

    /// Where to die, and how many times it comes there before.
    struct Wish {
        step: Step,
        left: AtomicU32,
    }

    fn wish() -> Option<&'static Wish> {
        static WISH: OnceLock<Option<Wish>> = OnceLock::new();
        WISH.get_or_init(|| read(&std::env::var("SLUICE_DIE_AT").ok()?)).as_ref()
    }

    fn read(text: &str) -> Option<Wish> {
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        let step = Step::ALL.into_iter().find(|step| step.name() == name);
        let wish = step.zip(count.parse().ok().filter(|count| *count > 0));
        if wish.is_none() {
            tracing::error!(wish = text, "SLUICE_DIE_AT names no step");
        }
        wish.map(|(step, count)| Wish { step, left: AtomicU32::new(count) })
    }

    pub(super) fn is_to_die_at(steps: &[Step]) -> bool {
        wish().is_some_and(|wish| steps.contains(&wish.step))
    }

    pub(super) fn die_at(step: Step) {
        let Some(wish) = wish().filter(|wish| wish.step == step) else { return };
        if wish.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            // As memory that is short would have it: nothing is unwound, nothing said.
            let _ = raise(Signal::SIGKILL);
        }
    }

    pub(super) fn await_bytes(stream: &TcpStream) {
        let until = Instant::now() + SILENCE;
        while repair::unread(stream).is_ok_and(|bytes| bytes == 0) && Instant::now() < until {
            std::thread::yield_now();
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_wish_is_a_step_and_a_count() {
            for step in Step::ALL {
                let wish = read(step.name()).unwrap();
                assert_eq!((wish.step, wish.left.into_inner()), (step, 1));
            }
            let wish = read("rest-sent:3").unwrap();
            assert_eq!((wish.step, wish.left.into_inner()), (Step::RestSent, 3));
            for bad in ["", "activate", "activated:", "activated:0", "activated:x"] {
                assert!(read(bad).is_none(), "{bad}");
            }
        }
    }
}
