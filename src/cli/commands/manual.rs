//! `tenantry completions`, `tenantry man`: what a shell and a manual want, from the command line's own definition.

use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::args::Args;
use crate::cli::error::CommandError;
use crate::domain::Exit;

/// Prints completions.
pub fn completions(shell: Shell) -> Result<Exit, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "tenantry", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script)?;
    Ok(Exit::Done)
}

/// Writes the manual's pages into a folder.
pub fn man(folder: &Path) -> Result<Exit, CommandError> {
    let unwritable = |error| {
        let error = CommandError::usage(format!("cannot write into {}: {error}", folder.display()));
        error.hint("name a folder that is there, or can be made")
    };
    fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Args::command(), folder)).map_err(unwritable)?;
    Ok(Exit::Done)
}
