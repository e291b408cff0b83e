//! Tells the programs which git revision they are built from; outside a checkout, that it is unknown.

use std::process::Command;

fn main() {
    let asked = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let revision = match asked {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    };
    println!("cargo:rustc-env=OMENDB_GIT_REVISION={revision}");
    println!("cargo:rerun-if-changed=../../.git/HEAD");
    println!("cargo:rerun-if-changed=../../.git/logs/HEAD");
}
