//! Log lines as JSON: one flat object each, with the fields of the spans around the event.

use std::fmt;

use jiff::Timestamp;
use opentelemetry::trace::TraceContextExt;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};
use tracing::{Event, Subscriber};
use tracing_opentelemetry::get_otel_context;
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::{JsonFields, Writer},
    },
    registry::{LookupSpan, Scope, SpanRef},
};

use super::is_ours;

/// The form of a line.
pub(super) struct Flat;

impl<S> FormatEvent<S, JsonFields> for Flat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Map::new();
        let spans = context.event_scope().into_iter();
        for span in spans.flat_map(Scope::from_root) {
            // What others call their fields is no business of our lines.
            if is_ours(span.metadata()) || !is_ours(metadata) {
                let extensions = span.extensions();
                if let Some(recorded) = extensions.get::<FormattedFields<JsonFields>>() {
                    extend(&mut fields, &recorded.fields);
                }
            }
        }
        if let Some(span) = context.lookup_current()
            && let Some((trace, span)) = sent_as(&span)
        {
            fields.insert("trace_id".to_owned(), trace.into());
            fields.insert("span_id".to_owned(), span.into());
        }
        let mut own = String::new();
        context.format_fields(Writer::new(&mut own), event)?;
        extend(&mut fields, &own);
        let message = fields.remove("message").unwrap_or_default();
        let line = line(
            &metadata.level().to_string(),
            metadata.target(),
            &message,
            &fields,
        );
        writeln!(writer, "{}", line.map_err(|_| fmt::Error)?)
    }
}

fn extend(fields: &mut Map<String, Value>, more: &str) {
    if let Ok(Value::Object(more)) = serde_json::from_str(more) {
        fields.extend(more);
    }
}

/// The identifiers of the trace and the span, where they are sent to a collector.
fn sent_as<S>(span: &SpanRef<'_, S>) -> Option<(String, String)>
where
    S: for<'a> LookupSpan<'a>,
{
    let context = tracing::dispatcher::get_default(|all| get_otel_context(&span.id(), all))?;
    let span = context.span();
    let known = span.span_context();
    known
        .is_sampled()
        .then(|| (known.trace_id().to_string(), known.span_id().to_string()))
}

fn line(
    level: &str,
    target: &str,
    message: &Value,
    fields: &Map<String, Value>,
) -> serde_json::Result<String> {
    const FIXED: [&str; 3] = ["timestamp", "level", "target"];
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut bytes);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("timestamp", &format!("{:.6}", Timestamp::now()))?;
    map.serialize_entry("level", level)?;
    map.serialize_entry("message", message)?;
    for (name, value) in fields {
        if !FIXED.contains(&name.as_str()) {
            map.serialize_entry(name, value)?;
        }
    }
    map.serialize_entry("target", target)?;
    map.end()?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
