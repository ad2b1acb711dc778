//! `[queue.NAME]`

use std::time::Duration;

use indexmap::IndexMap;

use super::plain_name;
use super::traffic::check_app;
use crate::scenario::model::{Acknowledge, Queue};
use crate::scenario::reader::{At, Log, Value};

pub(super) fn queues(value: &Value<'_, '_>, log: &Log<'_>, apps: &[&str]) -> Option<IndexMap<String, At<Queue>>> {
    let mut queues = IndexMap::new();
    for (name, value) in value.named(log)? {
        plain_name(log, "a queue", name.value, &name.span);
        let mut queue = Queue { app: None, acknowledge: Acknowledge::Early, max_retries: 0, countdown: Duration::ZERO };
        if let Some(mut reader) = value.table(log) {
            if let Some(app) = reader.read_at("app", |v, log| v.words(log)) {
                check_app(log, app.value, &app.span, apps.iter().copied());
                queue.app = Some(app.value.to_owned());
            }
            let choices = [("early", Acknowledge::Early), ("late", Acknowledge::Late)];
            if let Some(acknowledge) = reader.read("acknowledge", |v, log| v.choice(log, &choices)) {
                queue.acknowledge = acknowledge;
            }
            queue.max_retries = reader.read("max_retries", |v, log| v.count(log, 0..=10_000)).unwrap_or_default();
            queue.countdown = reader.read("countdown", |v, log| v.duration(log)).unwrap_or_default();
            reader.finish();
        }
        queues.insert(name.value.to_owned(), At { value: queue, span: name.span });
    }
    Some(queues)
}
