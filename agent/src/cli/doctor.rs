//! `remora doctor`: a line for each thing that live capture needs, with the mend where it is missing.

use std::process::ExitCode;

#[cfg(feature = "ebpf")]
pub(super) fn run() -> anyhow::Result<ExitCode> {
    let checks = crate::doctor::doctor();
    let mut missing = false;
    for check in &checks {
        missing |= !check.ok;
        println!("{}  {}: {}", if check.ok { "ok     " } else { "missing" }, check.what, check.detail);
        if !check.ok && !check.mend.is_empty() {
            println!("         mend: {}", check.mend);
        }
    }
    println!("ok       replay: capture files need no privilege");
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(not(feature = "ebpf"))]
pub(super) fn run() -> anyhow::Result<ExitCode> {
    println!("missing  live capture: this remora was built without eBPF (feature `ebpf`)");
    println!("ok       replay: capture files need no privilege");
    Ok(ExitCode::FAILURE)
}
