//! Conducting a run: events to the reporter, signals to the engine, the result to the command.

use std::future::Future;
use std::io;
use std::mem::take;
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
    // What happens at once is told at once: waking a thread costs as much as a line does.
    let (speaker, heard) = mpsc::channel::<Vec<Timed>>();
    let voice = thread::spawn(move || {
        for event in heard.into_iter().flatten() {
            show(reporter.as_mut(), &event);
        }
        reporter.finish();
    });
    let mut news = Vec::new();
    let mut asked = false;
    let result = loop {
        tokio::select! {
            biased;
            1.. = events.recv_many(&mut news, usize::MAX) => {
                let _ = speaker.send(take(&mut news));
            }
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
    news.extend(std::iter::from_fn(|| events.try_recv().ok()));
    let _ = speaker.send(news);
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
