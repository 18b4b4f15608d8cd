//! The one place that promises aya which types are plain bytes.
#![expect(unsafe_code, reason = "`aya::Pod` is an unsafe trait")]

use aya::Pod;

use crate::{Addr4, Addr6, Backend, Config, Flow, FlowKey, ListenerKey, Table};

macro_rules! pod {
    ($($type:ty),+ $(,)?) => {
        $(
            // SAFETY: `repr(C)` or `repr(transparent)` over unsigned integers in fields of falling or equal
            // alignment; the size asserts beside the types prove that there is no padding, and every bit pattern
            // is a value.
            unsafe impl Pod for $type {}
        )+
    };
}

pod!(
    FlowKey<Addr4>,
    FlowKey<Addr6>,
    Flow<Addr4>,
    Flow<Addr6>,
    ListenerKey<Addr4>,
    ListenerKey<Addr6>,
    Backend<Addr4>,
    Backend<Addr6>,
    Table,
    Config,
);
