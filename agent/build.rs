//! Compiles the eBPF programs, which the binary embeds. Does nothing without the feature `ebpf`.

#[cfg(feature = "ebpf")]
#[path = "build/ebpf.rs"]
mod ebpf;

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "ebpf")]
    ebpf::build()?;
    Ok(())
}
