//! One writer, many readers: a value is published whole and read once.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

/// Holds the value in force. Cheap to read from any thread; readers that must act on changes subscribe.
#[derive(Debug)]
pub struct Published<T> {
    value: Arc<ArcSwap<T>>,
    changed: watch::Sender<()>,
}

impl<T: Default> Default for Published<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Published<T> {
    /// Starts with a first value.
    pub fn new(first: T) -> Self {
        Self { value: Arc::new(ArcSwap::from_pointee(first)), changed: watch::Sender::new(()) }
    }

    /// Puts a new value in force and wakes the subscribers.
    pub fn publish(&self, value: Arc<T>) {
        self.value.store(value);
        self.changed.send_replace(());
    }

    /// The value in force now.
    pub fn current(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// A reader.
    pub fn subscribe(&self) -> Subscription<T> {
        Subscription { value: self.value.clone(), changed: self.changed.subscribe() }
    }
}

/// A reader's end.
#[derive(Debug)]
pub struct Subscription<T> {
    value: Arc<ArcSwap<T>>,
    changed: watch::Receiver<()>,
}

impl<T> Clone for Subscription<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), changed: self.changed.clone() }
    }
}

impl<T> Subscription<T> {
    /// The value in force now.
    pub fn current(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// Waits until a value was published that this subscription has not seen; false when the publisher is gone.
    pub async fn changed(&mut self) -> bool {
        self.changed.changed().await.is_ok()
    }
}
