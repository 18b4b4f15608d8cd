//! x
use gateway_userspace::datapath::load;
#[test]
fn loads() {
    let r = load::load(load::Sizes { flows: 1024, slots: 4096 }, None);
    if let Err(e) = r {
        panic!("{e}\n{e:?}");
    }
}
