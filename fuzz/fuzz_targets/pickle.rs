//! The unpickler takes any bytes without a panic, within its limits; what it makes can be written and read again.
#![no_main]

use econtext_proto::pickle::{AllowList, Pickle, PickleLimits, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = PickleLimits { nodes: 1 << 14, depth: 64, expanded: 1 << 18, digits: 1000 };
    let Ok(pickle) = Pickle::parse(data, &limits) else { return };
    let mut allowed = AllowList::default();
    allowed.allow("m", "C");
    let Ok(value) = pickle.value(pickle.root(), &allowed) else { return };
    let mut again = Vec::new();
    let wide = PickleLimits { nodes: 1 << 20, depth: 80, expanded: 1 << 24, digits: 1000 };
    if encode(1000, &value, &wide, &mut again).is_ok() {
        let pickle = Pickle::parse(&again, &wide).expect("our own pickle");
        let (handle, payload) = pickle.pair(pickle.root()).expect("a pair");
        assert_eq!(pickle.int(handle), Some(1000));
        let back = pickle.value(payload, &allowed).expect("plain values");
        let mut third = Vec::new();
        encode(1000, &back, &wide, &mut third).expect("as before");
        assert_eq!(third, again);
    }
});
