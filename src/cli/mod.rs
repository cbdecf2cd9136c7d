//! The command line: arguments and environment in, exit code out. Only here the environment is read.

mod args;
mod commands;
mod console;
mod environment;
mod error;
mod run;
mod site;
mod tenants;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use crate::domain::Exit;

/// Runs the program that the process's arguments ask for.
pub fn main() -> ExitCode {
    // Huge pages hold what was freed long ago: packaging takes a third less memory without them, and no more time. A kernel
    // that knows none is as good.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let args = args::Args::parse();
    // A rollout waits for answers most of its time: one thread serves ten thousand targets, and spares the cost of waking
    // others.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return error::show(&error::CommandError::from(error)),
    };
    let result = runtime.block_on(commands::run(args));
    // A thread may still wait for a key at the terminal; nobody waits for the thread.
    runtime.shutdown_timeout(Duration::ZERO);
    match result {
        Ok(exit) => code(exit),
        Err(error) => error::show(&error),
    }
}

fn code(exit: Exit) -> ExitCode {
    ExitCode::from(exit as u8)
}
