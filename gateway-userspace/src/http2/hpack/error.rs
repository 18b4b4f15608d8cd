//! What is no HPACK.

/// Why a block cannot be decoded. The table is out of step from then on: a connection error, `COMPRESSION_ERROR` (RFC 9113, 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It refers to an entry that neither table has (RFC 7541, 2.3.3).
    #[error("a reference to an entry that no table has")]
    Index,
    /// It has a string with a bad end, or the code that stands for none (RFC 7541, 5.2).
    #[error("a string that is no Huffman code")]
    Huffman,
    /// It has a number beyond 32 bits, or in more octets than those take (RFC 7541, 5.1).
    #[error("a number that is too large")]
    Integer,
    /// It sets the table's size to more than we allow, or not at its start (RFC 7541, 4.2 and 6.3).
    #[error("a table size that is not allowed, or not at a block's start")]
    TableSize,
    /// It ends within a field.
    #[error("a header block that breaks off")]
    Truncated,
}
