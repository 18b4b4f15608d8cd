//! Counting gRPC messages in a body, however it is cut (gRPC over HTTP/2, Length-Prefixed-Message: a byte of flags, the length in
//! four, big endian, the message).

/// Bytes before a message.
const PREFIX: u8 = 5;

/// Messages whose prefix has come as a whole.
#[derive(Debug, Default)]
pub struct Messages {
    count: u64,
    /// Bytes of the prefix that have come.
    prefix: u8,
    length: u32,
    /// Bytes of the message that have not.
    rest: u32,
}

impl Messages {
    /// Goes on through the body.
    pub fn take(&mut self, mut data: &[u8]) {
        loop {
            let skipped = data.len().min(self.rest as usize);
            self.rest -= skipped as u32;
            data = data.get(skipped..).unwrap_or_default();
            let Some((byte, rest)) = data.split_first() else { return };
            data = rest;
            // The byte of flags is shifted out.
            self.length = self.length << 8 | u32::from(*byte);
            self.prefix += 1;
            if self.prefix == PREFIX {
                (self.rest, self.prefix) = (self.length, 0);
                self.count += 1;
            }
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let message = |flags: u8, length: usize| {
            let mut message = vec![flags];
            message.extend((length as u32).to_be_bytes());
            message.extend(vec![7; length]);
            message
        };
        let body = [message(0, 3), message(1, 0), message(255, 300)].concat();
        for size in 1..=body.len() {
            let mut messages = Messages::default();
            body.chunks(size).for_each(|piece| messages.take(piece));
            assert_eq!(messages.count(), 3, "in pieces of {size}");
        }
        let mut cut = Messages::default();
        cut.take(&body[..4]);
        assert_eq!(cut.count(), 0);
    }
}
