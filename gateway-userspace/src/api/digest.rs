//! What documents say in a few bytes, the same ones in every process, so that gateways can be held against each other.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::object::ObjectRef;
use super::yaml::{Content, Node};

/// Of one document: its name and what it says, whatever its layout and comments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest([u64; 2]);

/// Of a set of documents, in whatever order: the sum of their digests modulo 2^128. So whoever keeps a set keeps its fingerprint
/// with each document that comes or goes, and never has to look at all of a mesh. It tells sets apart that differ by chance, not
/// those that somebody has made alike on purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fingerprint(u128);

impl Digest {
    /// The first half of a SHA-256.
    pub(super) fn of(reference: &ObjectRef, tree: &Node) -> Self {
        let mut hash = Sha256::new();
        for word in [&reference.kind, &reference.namespace, &reference.name] {
            put_text(&mut hash, word);
        }
        put(&mut hash, tree);
        let bytes: [u8; 32] = hash.finalize().into();
        let half =
            |at: usize| bytes[at..at + 8].iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        Self([half(0), half(8)])
    }

    fn number(self) -> u128 {
        let Self([high, low]) = self;
        u128::from(high) << 64 | u128::from(low)
    }
}

impl Fingerprint {
    /// With one document more.
    pub fn add(&mut self, digest: Digest) {
        self.0 = self.0.wrapping_add(digest.number());
    }

    /// With one document less, which is among them.
    pub fn remove(&mut self, digest: Digest) {
        self.0 = self.0.wrapping_sub(digest.number());
    }

    /// With the documents of another set, which are not among them.
    pub fn join(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

impl fmt::Display for Fingerprint {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

fn put(hash: &mut Sha256, node: &Node) {
    match &node.content {
        Content::Scalar { text, plain } => {
            hash.update([0, u8::from(*plain)]);
            put_text(hash, text);
        }
        Content::Sequence(items) => {
            put_length(hash, 1, items.len());
            for item in items {
                put(hash, item);
            }
        }
        Content::Mapping(entries) => {
            put_length(hash, 2, entries.len());
            for entry in entries {
                put_text(hash, &entry.key);
                put(hash, &entry.value);
            }
        }
    }
}

/// With its length, so that no two sequences of texts are one.
fn put_text(hash: &mut Sha256, text: &str) {
    put_length(hash, 3, text.len());
    hash.update(text);
}

fn put_length(hash: &mut Sha256, tag: u8, length: usize) {
    let mut bytes = [tag; 9];
    bytes[1..].copy_from_slice(&(length as u64).to_le_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::yaml;

    fn digest(name: &str, text: &str) -> Digest {
        let tree = yaml::parse(text, 1).expect("YAML").expect("a document");
        Digest::of(&ObjectRef::new("Service", "shop", name), &tree)
    }

    fn fingerprint(of: &[Digest]) -> String {
        let mut sum = Fingerprint::default();
        for digest in of {
            sum.add(*digest);
        }
        sum.to_string()
    }

    #[test]
    fn a_digest_is_of_the_name_and_of_what_is_said_not_of_its_layout() {
        let plain = digest("a", "spec:\n  ports: [{port: 80}]\n");
        assert_eq!(plain, digest("a", "# why\nspec: {ports: [{port: 80}]}\n"));
        for (name, text) in [
            ("b", "spec: {ports: [{port: 80}]}"),
            ("a", "spec: {ports: [{port: 81}]}"),
            ("a", "spec: {ports: [{port: '80'}]}"),
            ("a", "spec: {ports: {port: 80}}"),
            ("a", "spec: {ports: [{po: rt80}]}"),
            ("a", "spec: {ports: [{port: 80}, {}]}"),
        ] {
            assert_ne!(plain, digest(name, text), "{name}: {text}");
        }
    }

    #[test]
    fn a_digest_is_the_same_in_every_process() {
        // The beginning of what sha256sum says of the same bytes.
        assert_eq!(fingerprint(&[digest("a", "spec: {}")]), "9bfdc374237749febb25ce0df7ae0297");
    }

    #[test]
    fn a_fingerprint_does_not_ask_for_an_order() {
        let [a, b, c] = ["a", "b", "c"].map(|name| digest(name, "spec: {}"));
        assert_eq!(fingerprint(&[a, b, c]), fingerprint(&[c, a, b]));
        assert_ne!(fingerprint(&[a, b]), fingerprint(&[a, c]));
        assert_ne!(fingerprint(&[a, b]), fingerprint(&[a, b, c]));
        assert_eq!(fingerprint(&[]), "0".repeat(32));
        let [mut all, mut some] = [Fingerprint::default(); 2];
        for digest in [a, b, c] {
            all.add(digest);
        }
        all.remove(b);
        some.add(a);
        all.remove(a);
        all.join(some);
        assert_eq!(all.to_string(), fingerprint(&[a, c]));
    }
}
