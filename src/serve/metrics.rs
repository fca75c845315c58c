//! What happens, for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets, linear_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::about::About;

type Labels<const N: usize> = [(&'static str, String); N];
type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    requests: Family<Labels<2>, Counter>,
    request_seconds: Histograms,
    in_flight: Gauge,
    phases: Histograms,
    queue_rows: Gauge,
    queue_tokens: Gauge,
    batch_rows: Histogram,
    batch_tokens: Histogram,
    batch_padding: Histogram,
    tokens: Counter,
    padding: Counter,
    predictions: Family<Labels<2>, Counter>,
    models: Family<Labels<2>, Gauge>,
    reloads: Family<Labels<1>, Counter>,
}

impl Metrics {
    pub(super) fn new(queue_tokens: usize) -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        let mut metrics = Self {
            registry: Arc::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
            phases: Family::new_with_constructor(seconds),
            queue_rows: Gauge::default(),
            queue_tokens: Gauge::default(),
            batch_rows: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            batch_tokens: Histogram::new(exponential_buckets(4.0, 2.0, 12)),
            batch_padding: Histogram::new(linear_buckets(0.0, 0.1, 10)),
            tokens: Counter::default(),
            padding: Counter::default(),
            predictions: Family::default(),
            models: Family::default(),
            reloads: Family::default(),
        };
        metrics.registry = Arc::new(metrics.register(queue_tokens));
        metrics
    }

    fn register(&self, most_queue_tokens: usize) -> Registry {
        let mut registry = Registry::with_prefix("bam");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program", build);
        registry.register("model_info", "The model that new requests go to", self.models.clone());
        registry.register("requests", "Requests answered, by route and status", self.requests.clone());
        registry.register("requests_in_flight", "Requests being answered", self.in_flight.clone());
        let total = "Time a request took, by route";
        registry.register_with_unit("request", total, Unit::Seconds, self.request_seconds.clone());
        let phases = "Time that rows took, by phase: tokenize, queue, compute";
        registry.register_with_unit("request_phase", phases, Unit::Seconds, self.phases.clone());
        registry.register("queue_rows", "Rows that wait for a session", self.queue_rows.clone());
        registry.register("queue_tokens", "Tokens that wait for a session", self.queue_tokens.clone());
        let limit = Gauge::<i64>::default();
        limit.set(most_queue_tokens as i64);
        registry.register("queue_tokens_limit", "Most tokens that may wait", limit);
        registry.register("batch_rows", "Rows of a batch", self.batch_rows.clone());
        registry.register("batch_tokens", "Tokens of a batch, without padding", self.batch_tokens.clone());
        registry.register("batch_padding_ratio", "Share of a batch that is padding", self.batch_padding.clone());
        registry.register("tokens", "Tokens computed, without padding", self.tokens.clone());
        registry.register("padding_tokens", "Padding computed", self.padding.clone());
        registry.register("predictions", "Answers, by task and label", self.predictions.clone());
        registry.register("reloads", "Newer models, by whether they were taken up", self.reloads.clone());
        registry
    }

    /// The text that Prometheus reads, with the queues as they are now.
    pub(super) fn text(&self, (rows, tokens): (usize, usize)) -> String {
        self.queue_rows.set(rows as i64);
        self.queue_tokens.set(tokens as i64);
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a text does not fail");
        text
    }

    /// New requests go to this model, and no longer to the one before. A scrape may see both, but never neither.
    pub(super) fn model(&self, about: &About, before: Option<&About>) {
        let labels = |about: &About| {
            let stage = escaped(about.stage().unwrap_or_default());
            [("fingerprint", about.fingerprint.to_string()), ("stage", stage)]
        };
        let now = labels(about);
        self.models.get_or_create(&now).set(1);
        if let Some(before) = before.map(labels).filter(|before| *before != now) {
            self.models.remove(&before);
        }
    }

    pub(super) fn reload(&self, taken_up: bool) {
        let result = if taken_up { "taken_up" } else { "failed" };
        self.reloads.get_or_create(&[("result", result.to_owned())]).inc();
    }

    /// Counts a request as in flight until what is returned is dropped.
    pub(super) fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    pub(super) fn request(&self, route: &str, status: u16, time: Duration) {
        self.requests.get_or_create(&[("route", route.to_owned()), ("status", status.to_string())]).inc();
        self.request_seconds.get_or_create(&[("route", route.to_owned())]).observe(time.as_secs_f64());
    }

    pub(super) fn phase(&self, phase: &'static str, time: Duration) {
        self.phases.get_or_create(&[("phase", phase.to_owned())]).observe(time.as_secs_f64());
    }

    /// Counts an answer; a regression's has no label.
    pub(super) fn prediction(&self, task: &str, label: Option<&str>) {
        let label = escaped(label.unwrap_or_default());
        self.predictions.get_or_create(&[("task", escaped(task)), ("label", label)]).inc();
    }

    /// Counts a batch of rows of these lengths.
    pub(super) fn batch(&self, lengths: &[usize]) {
        let tokens: usize = lengths.iter().sum();
        let padded = lengths.len() * lengths.iter().max().copied().unwrap_or(0);
        self.batch_rows.observe(lengths.len() as f64);
        self.batch_tokens.observe(tokens as f64);
        self.batch_padding.observe((padded - tokens) as f64 / padded.max(1) as f64);
        self.tokens.inc_by(tokens as u64);
        self.padding.inc_by((padded - tokens) as u64);
    }
}

#[derive(Debug)]
pub(super) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Names come from pipeline files; the library writes them as they are.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
