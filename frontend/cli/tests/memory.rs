/*!
Memory that a thread has freed goes back to the system, though the thread does nothing more.
*/
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use omendb_cli::memory;
use std::sync::mpsc;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

/// Memory of this process that is in use, KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn what_an_idle_thread_has_freed_is_not_kept() {
    memory::return_soon();
    let before = resident();
    let (freed_in, freed) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let idle = std::thread::spawn(move || {
        let pieces: Vec<Vec<u8>> = (0..4096).map(|i| vec![u8::try_from(i % 251).unwrap() + 1; 64 * 1024]).collect();
        let held = resident();
        drop(pieces);
        freed_in.send(held).unwrap();
        ended.recv().unwrap();
    });
    let held = freed.recv().unwrap();
    assert!(held > before + 200 * 1024, "{before} KiB, then {held} KiB");
    // It goes within a second; how soon this machine gets to it is another matter.
    let mut waits = 0;
    while resident() >= before + 64 * 1024 {
        waits += 1;
        assert!(waits < 600, "{before} KiB, {held} KiB held, {} KiB after a minute", resident());
        std::thread::sleep(Duration::from_millis(100));
    }
    end.send(()).unwrap();
    idle.join().unwrap();
}
