//! Where things are written: the answer on standard output, all else on standard error, secrets on neither.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::path::PathBuf;

use indicatif::ProgressDrawTarget;
use serde::Serialize;

use super::args::{Args, LogFormat, Output};
use super::environment::Environment;
use super::error::CommandError;
use crate::domain::Masks;
use crate::event::{Event, Events};
use crate::gate::Ask;
use crate::report::text::{BOLD, styled};
use crate::report::{JsonLines, Lines, Mask, Progress, Reporter};

/// How this process speaks.
pub struct Console {
    log_format: LogFormat,
    output: Output,
    outputs_file: Option<PathBuf>,
    /// Which of several stacks the answers are about.
    stack: Option<String>,
    masks: Masks,
    interactive: bool,
    github: bool,
    command: String,
}

/// One of several answers, for `--output json`.
#[derive(Serialize)]
struct StackAnswer<'a, T: Serialize> {
    stack: &'a str,
    answer: &'a T,
}

impl Console {
    /// Reads the wishes from the arguments. Where several stacks have their turn one after the other, each answer says
    /// whose it is.
    pub fn new(args: &Args, environment: &Environment, stack: Option<&str>) -> Self {
        let interactive = io::stdin().is_terminal() && io::stderr().is_terminal() && !environment.ci;
        Self {
            log_format: args.log_format,
            output: args.output,
            outputs_file: args.outputs_file.clone(),
            stack: stack.filter(|_| args.stack.is_none()).map(str::to_owned),
            masks: Masks::default(),
            interactive,
            github: environment.github,
            command: args.command.name(),
        }
    }

    /// Masks values in everything that is written from now on, and has GitHub's runner do so too.
    pub fn hide(&self, values: BTreeSet<String>) -> io::Result<()> {
        if self.github {
            Self::hide_in_github(&values)?;
        }
        self.masks.add(values);
        Ok(())
    }

    /// Returns a text without the values that nobody may read.
    pub fn covered(&self, text: &str) -> String {
        self.masks.apply(text)
    }

    /// Returns an error without the values that nobody may read.
    pub fn cover(&self, error: CommandError) -> CommandError {
        error.masked(&self.masks)
    }

    /// Returns what hides the values that nobody may read.
    pub fn masks(&self) -> Masks {
        self.masks.clone()
    }

    /// Returns the command's name.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Writes a line on standard error, after all that was told.
    pub fn note(&self, text: &str) -> io::Result<()> {
        writeln!(Mask::new(anstream::stderr(), self.masks.clone()), "note: {text}")
    }

    /// Returns the reporter that was asked for.
    pub fn reporter(&self) -> Box<dyn Reporter> {
        let masks = self.masks.clone();
        match self.log_format {
            LogFormat::Json => Box::new(JsonLines(Mask::new(io::stderr(), masks))),
            LogFormat::Auto if !self.interactive => Box::new(Lines::new(Mask::new(anstream::stderr(), masks))),
            LogFormat::Plain => Box::new(Lines::new(Mask::new(anstream::stderr(), masks))),
            LogFormat::Auto | LogFormat::Progress => Box::new(Progress::new(ProgressDrawTarget::stderr(), masks)),
        }
    }

    /// Returns how to ask at the terminal, if somebody sits there.
    pub fn terminal(&self, events: &Events) -> Option<Ask> {
        self.interactive.then(|| ask(events.clone()))
    }

    /// Tells GitHub's runner which values to hide in the logs of this job and of those after it. Only the runner reads
    /// these lines, and shows none of them.
    fn hide_in_github(values: &BTreeSet<String>) -> io::Result<()> {
        let mut out = io::stderr().lock();
        for value in values {
            // A value of several lines is hidden line by line, as the runner masks.
            for line in value.lines().map(str::trim).filter(|line| line.len() >= Masks::SHORTEST) {
                writeln!(out, "::add-mask::{}", line.replace('%', "%25").replace('\r', "%0D"))?;
            }
        }
        out.flush()
    }

    /// Asks for a text at the terminal, if somebody sits there.
    pub async fn ask(&self, events: &Events, question: String) -> Option<String> {
        if self.interactive { ask(events.clone())(question).await } else { None }
    }

    /// Writes the answer of a command. That nobody reads it to its end, as behind `| head`, is no failure.
    pub fn answer(&self, text: &str, data: &impl Serialize) -> io::Result<()> {
        let fenced = || format!("```text\n{}\n```", anstream::adapter::strip_str(text));
        self.answer_with(text, fenced, data)
    }

    /// Writes an answer that has a form of its own in Markdown.
    pub fn answer_with(&self, text: &str, markdown: impl FnOnce() -> String, data: &impl Serialize) -> io::Result<()> {
        let out = Mask::new(anstream::stdout(), self.masks.clone());
        match self.write_answer(out, text, markdown, data) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    fn write_answer(
        &self,
        mut out: impl Write,
        text: &str,
        markdown: impl FnOnce() -> String,
        data: &impl Serialize,
    ) -> io::Result<()> {
        match (self.output, &self.stack) {
            (Output::Text, None) => writeln!(out, "{text}")?,
            (Output::Text, Some(stack)) => writeln!(out, "{}\n{text}", styled(BOLD, format_args!("== {stack}")))?,
            (Output::Markdown, None) => writeln!(out, "{}", markdown())?,
            (Output::Markdown, Some(stack)) => writeln!(out, "### {stack}\n\n{}", markdown())?,
            // A matrix is refused before anything is begun.
            (Output::Json | Output::GithubMatrix | Output::CodebuildBatch, None) => {
                writeln!(out, "{}", serde_json::to_string_pretty(data)?)?;
            }
            (Output::Json | Output::GithubMatrix | Output::CodebuildBatch, Some(stack)) => {
                let answer = StackAnswer { stack, answer: data };
                writeln!(out, "{}", serde_json::to_string_pretty(&answer)?)?;
            }
        }
        out.flush()
    }

    /// Checks that the file for outputs can be written, before anything is begun.
    pub fn check_outputs(&self) -> io::Result<()> {
        self.outputs(&[])
    }

    /// Tells whether a file for `key=value` lines was asked for.
    pub fn has_outputs(&self) -> bool {
        self.outputs_file.is_some()
    }

    /// Appends `key=value` lines to the file that was asked for, if one was.
    pub fn outputs(&self, values: &[(&str, String)]) -> io::Result<()> {
        let Some(path) = &self.outputs_file else { return Ok(()) };
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let mut file = Mask::new(file, self.masks.clone());
        for (key, value) in values {
            writeln!(file, "{key}={value}")?;
        }
        file.flush()
    }
}

/// Asks by way of the reporter, so that the question comes after all that was told before, and reads a line.
fn ask(events: Events) -> Ask {
    Box::new(move |question| {
        events.emit(Event::Question { text: question });
        Box::pin(async {
            let line = tokio::task::spawn_blocking(|| {
                let mut line = String::new();
                io::stdin().lock().read_line(&mut line).ok().filter(|read| *read > 0).map(|_| line)
            });
            line.await.ok().flatten()
        })
    })
}
