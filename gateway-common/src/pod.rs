//! The one place that promises aya which types are plain bytes.
#![expect(unsafe_code, reason = "`aya::Pod` is an unsafe trait")]

use aya::Pod;

use crate::{
    Addr4, Addr6, Address, Backend, Config, Event, Flow, FlowKey, Half, Link, ListenerKey, Load, Pool, Table,
    Translation,
};

macro_rules! pod {
    ($($type:ty),+ $(,)?) => {
        $(
            // SAFETY: `repr(C)` or `repr(transparent)` over unsigned integers; the size asserts beside the types
            // prove that there is no padding, and every bit pattern is a value.
            unsafe impl Pod for $type {}
        )+
    };
    ($($type:ident<A>),+ $(,)?; generic) => {
        $(
            // SAFETY: as above. `Address` is sealed, and the size asserts cover both of its types.
            unsafe impl<A: Address + Pod> Pod for $type<A> {}
        )+
    };
}

pod!(Addr4, Addr6, Table, Config, Half, Load, Link, Pool, Event, Translation);
pod!(FlowKey<A>, Flow<A>, ListenerKey<A>, Backend<A>; generic);
