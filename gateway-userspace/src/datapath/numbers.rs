//! Numbers of backends and listeners: given out in turn, and again only when nothing has them any more. Pure.

use std::collections::BTreeSet;

/// The numbers from 1 below a limit.
#[derive(Debug)]
pub struct Numbers {
    limit: u32,
    next: u32,
    used: BTreeSet<u32>,
}

impl Numbers {
    /// All free.
    pub fn below(limit: u32) -> Self {
        Self { limit, next: 1, used: BTreeSet::new() }
    }

    /// Takes a number into use that was given out before.
    pub fn adopt(&mut self, number: u32) {
        self.used.insert(number);
        self.next = self.next.max(number.saturating_add(1));
    }

    /// A number that nobody has; one not given out for long.
    pub fn take(&mut self) -> Option<u32> {
        let next = self.next.max(1);
        let free = (next..self.limit).chain(1..next.min(self.limit));
        let number = free.into_iter().find(|number| !self.used.contains(number))?;
        self.used.insert(number);
        self.next = number + 1;
        Some(number)
    }

    /// Gives a number back.
    pub fn free(&mut self, number: u32) {
        self.used.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_again_as_late_as_can_be() {
        let mut numbers = Numbers::below(4);
        numbers.adopt(1);
        assert_eq!((numbers.take(), numbers.take(), numbers.take()), (Some(2), Some(3), None));
        numbers.free(1);
        numbers.free(3);
        assert_eq!((numbers.take(), numbers.take(), numbers.take()), (Some(1), Some(3), None));
    }
}
