//! Conducting a run: events to the reporter, signals to the engine, the result to the command.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::mpsc;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::engine::StopHandle;
use crate::event::{Event, Events, Timed};
use crate::report::Reporter;

/// Runs `work` to its end, and returns its result; or none where a second signal ended it at once.
///
/// CodeBuild and GitHub send SIGTERM or SIGINT some seconds before they kill. The first signal lets the engine
/// detach; what runs in CloudFormation goes on in any case. Whoever reads what is told may be slow, as a terminal that
/// was paused: a thread of its own waits for them, and neither the lock's lease nor a signal does.
pub async fn conduct<T>(
    work: impl Future<Output = T>,
    mut events: UnboundedReceiver<Timed>,
    tell: &Events,
    mut reporter: Box<dyn Reporter>,
    stop: &StopHandle,
) -> io::Result<Option<T>> {
    let mut work = pin!(work);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (speaker, heard) = mpsc::channel();
    let voice = thread::spawn(move || {
        for event in heard {
            show(reporter.as_mut(), &event);
        }
        reporter.finish();
    });
    let tell_reporter = |event: Timed| _ = speaker.send(event);
    let mut asked = false;
    let result = loop {
        tokio::select! {
            biased;
            Some(event) = events.recv() => tell_reporter(event),
            name = next(&mut interrupt, &mut terminate) => {
                if asked {
                    break None;
                }
                asked = true;
                tell.emit(Event::Stopping { signal: name.to_owned() });
                stop.request();
            }
            result = &mut work => break Some(result),
        }
    };
    while let Ok(event) = events.try_recv() {
        tell_reporter(event);
    }
    drop(speaker);
    if result.is_some() {
        let _ = voice.join();
    }
    Ok(result)
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

/// Shows an event. A log that cannot be written any more, such as a closed pipe, stops no rollout.
fn show(reporter: &mut dyn Reporter, event: &Timed) {
    let _ = reporter.event(event);
}
