//! Commands.

mod ebpf;
mod toolchain;

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("build-ebpf") => println!("{}", ebpf::build()?.display()),
        Some("setup") => println!("{:?}", toolchain::ensure()?),
        _ => anyhow::bail!("build-ebpf"),
    }
    Ok(())
}
