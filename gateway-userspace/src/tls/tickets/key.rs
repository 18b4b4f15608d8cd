//! One key, and the form of the tickets that it seals:
//!
//! ```text
//! name of the key   nonce   session, encrypted   tag
//! 16                12      up to 16 KiB         16
//! ```

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::context::Context;

const NAME: usize = 16;
const SECRET: usize = 32;
/// A ticket comes back in a ClientHello, which is not to become one that somebody refuses for its length. Of a session only the
/// client's certificates are long.
const MOST_SESSION: usize = 16 * 1024;
/// Of what is sealed and of nothing else: another form of tickets is to have another one.
const LABEL: &[u8; 16] = b"sluice ticket 1\0";

/// On the heap, so that what is moved is not the secret.
type Secret = Box<Zeroizing<[u8; SECRET]>>;

/// What a ticket begins with: random, and known to everybody.
pub(super) type Name = [u8; NAME];

/// A session ticket encryption key.
pub(super) struct Key {
    name: Name,
    secret: Secret,
    /// Nonces are random, and drawn by several processes while one takes the place of another. AES-GCM would give itself away
    /// with the first nonce that comes twice; its variant GCM-SIV (RFC 8452) tells no more than that two sessions are the same.
    cipher: RandomizedNonceKey,
}

/// A key on its way to the process that takes this one's place. Of the same user, on a socket that is that user's alone.
#[derive(Serialize, Deserialize)]
pub struct HandedKey {
    name: Name,
    secret: Secret,
    /// Seconds since it was made.
    pub(super) age: u32,
}

impl Key {
    /// A new one. `None` if the system has no random bytes: no handshake comes to its end then either.
    pub(super) fn random() -> Option<Self> {
        let (mut name, mut secret) = (Name::default(), Secret::default());
        rand::fill(&mut name).ok()?;
        rand::fill(secret.as_mut_slice()).ok()?;
        Self::new(name, secret)
    }

    /// One that another process has made.
    pub(super) fn handed(key: HandedKey) -> Option<Self> {
        Self::new(key.name, key.secret)
    }

    fn new(name: Name, secret: Secret) -> Option<Self> {
        let cipher = RandomizedNonceKey::new(&AES_256_GCM_SIV, secret.as_slice()).ok()?;
        Some(Self { name, secret, cipher })
    }

    /// A copy for a successor; `age` in seconds.
    pub(super) fn hand(&self, age: u32) -> HandedKey {
        HandedKey { name: self.name, secret: self.secret.clone(), age }
    }

    /// What its tickets begin with.
    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// A ticket for a session. `None` if it would be too long.
    pub(super) fn seal(&self, context: &Context, session: &[u8]) -> Option<Vec<u8>> {
        if session.len() > MOST_SESSION {
            return None;
        }
        let head = NAME + NONCE_LEN;
        let mut ticket = Vec::with_capacity(head + session.len() + AES_256_GCM_SIV.tag_len());
        ticket.extend(self.name);
        ticket.extend([0; NONCE_LEN]);
        ticket.extend(session);
        let sealed = self.cipher.seal_in_place_separate_tag(self.bound(context), &mut ticket[head..]);
        let (nonce, tag) = sealed.ok()?;
        ticket[NAME..head].copy_from_slice(nonce.as_ref());
        ticket.extend(tag.as_ref());
        Some(ticket)
    }

    /// The session of a ticket that this key has sealed for the same context. What is not so is told from what is by the tag
    /// alone, in constant time.
    pub(super) fn open(&self, context: &Context, ticket: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = ticket.get(NAME..)?.split_first_chunk::<NONCE_LEN>()?;
        if sealed.len() > MOST_SESSION + AES_256_GCM_SIV.tag_len() {
            return None;
        }
        let mut session = sealed.to_vec();
        let opened = self.cipher.open_in_place(Nonce::from(nonce), self.bound(context), &mut session);
        let length = opened.ok()?.len();
        session.truncate(length);
        Some(session)
    }

    /// What a ticket is held to without saying it.
    fn bound(&self, context: &Context) -> Aad<Vec<u8>> {
        Aad::from([LABEL, &self.name, context.as_bytes().as_slice()].concat())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl fmt::Debug for HandedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandedKey").field("age", &self.age).finish_non_exhaustive()
    }
}
