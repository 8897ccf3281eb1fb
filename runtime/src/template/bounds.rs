//! What a template may take: the work that one does is done on a thread of its own.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::TemplateError;

/// What one template may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the template itself. A byte can nest the expression that it is in.
    pub template_bytes: usize,
    /// Steps of a rendering and, in units of 64, bytes that they make.
    pub steps: usize,
    /// Bytes of a value that is printed or written as JSON.
    pub value_bytes: usize,
    /// Time to parse the template.
    pub parsing: Duration,
    /// Time of a rendering.
    pub rendering: Duration,
}

impl Default for Bounds {
    /// Far more than templates and conversations take.
    fn default() -> Bounds {
        let time = Duration::from_secs(5);
        Bounds { template_bytes: 1 << 18, steps: 1 << 19, value_bytes: 1 << 24, parsing: time, rendering: time }
    }
}

/// Stack for what does not nest, in bytes.
const BASE_STACK_BYTES: usize = 2 << 20;
/// Stack for what one step can nest, in bytes: twice what it takes in a build without optimization.
const STACK_BYTES_PER_STEP: usize = 1 << 10;
/// The same for a byte of the template.
const STACK_BYTES_PER_BYTE: usize = 1 << 11;

impl Bounds {
    /// Does the work of a template, and waits so long for it.
    pub(super) fn run<T: Send + 'static>(
        &self,
        time: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TemplateError> {
        let nested = self.steps.saturating_mul(STACK_BYTES_PER_STEP);
        let nested = nested.max(self.template_bytes.saturating_mul(STACK_BYTES_PER_BYTE));
        let (sender, receiver) = mpsc::channel();
        let work = move || {
            // Nobody listens once the time is over.
            let _ = sender.send(work());
        };
        let builder = thread::Builder::new().stack_size(nested.saturating_add(BASE_STACK_BYTES));
        let thread = builder.spawn(work).map_err(TemplateError::Thread)?;
        match receiver.recv_timeout(time) {
            Ok(done) => Ok(done),
            Err(RecvTimeoutError::Timeout) => Err(TemplateError::Time { time }),
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("a thread that ends well has sent its result"),
            },
        }
    }
}
