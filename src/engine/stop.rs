//! The wish to stop, heard by every task at once.

use tokio::sync::watch;

/// Listens for the wish to stop.
#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

/// Says that the run shall stop. Dropping it without a word never stops anything.
pub struct StopHandle(watch::Sender<bool>);

impl Stop {
    /// Returns both ends.
    pub fn new() -> (StopHandle, Self) {
        let (sender, receiver) = watch::channel(false);
        (StopHandle(sender), Self(receiver))
    }

    /// Tells whether the run was asked to stop.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the run is asked to stop, for ever if it never is.
    pub async fn requested(&self) {
        if self.0.clone().wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl StopHandle {
    /// Tells whether it was said.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Asks every task to start nothing new and to let go of what runs.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}
