//! Takes the place of [futures-timer 3](https://docs.rs/futures-timer/3) by `[patch.crates-io]`: the same [`Delay`], on
//! tokio's clock.
//!
//! mobc waits by futures-timer, so that it runs under any executor. The original keeps a thread of its own, which sleeps
//! by the wall clock: in a run's virtual time its timers would fire at the wrong moment, in another order each time. mobc
//! itself is unmodified. `Delay` is all that the original exports.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A future that is complete once a time has passed.
///
/// It has to be made where a tokio runtime with a clock is entered.
pub struct Delay(Pin<Box<tokio::time::Sleep>>);

impl Delay {
    /// Complete `dur` from now.
    #[must_use]
    pub fn new(dur: Duration) -> Delay {
        Delay(Box::pin(tokio::time::sleep(dur)))
    }

    /// Complete `dur` from now instead, whether it was complete or not.
    pub fn reset(&mut self, dur: Duration) {
        // As `sleep` does it: what the clock can't express is far enough away.
        let far = Duration::from_secs(86_400 * 365 * 30);
        let now = tokio::time::Instant::now();
        self.0.as_mut().reset(now.checked_add(dur).unwrap_or_else(|| now + far));
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// Tells this crate from the original, whose text is `Delay`: poolproof's adapter of mobc asks.
impl fmt::Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Delay on tokio's clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_waits_in_virtual_time_and_can_be_set_anew() {
        let began = tokio::time::Instant::now();
        let mut delay = Delay::new(Duration::from_secs(60));
        (&mut delay).await;
        assert_eq!(began.elapsed(), Duration::from_secs(60));
        delay.reset(Duration::from_secs(5));
        delay.await;
        assert_eq!(began.elapsed(), Duration::from_secs(65));
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_without_end_is_no_overflow() {
        let mut delay = Delay::new(Duration::MAX);
        delay.reset(Duration::MAX);
        assert!(tokio::time::timeout(Duration::from_secs(86_400), delay).await.is_err());
    }
}
