//! A Prometheus as a process of its own, with the alerts of the chart.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use reqwest::Client;
use serde_json::{Value, json};

use super::{eventually, installed::installed, operator::guarded};

/// A program of `make monitoring`.
pub async fn monitoring_tool(name: &str) -> PathBuf {
    let built = installed("TOKENWARD_MONITORING", ("monitoring", "Go")).await;
    built.join(name)
}

/// A running Prometheus, which scrapes and evaluates every second; ended with the test.
pub struct Prometheus {
    child: Child,
    folder: tempfile::TempDir,
    address: String,
    http: Client,
}

impl Prometheus {
    /// Starts one with these rules, the content of a rule file, and nothing to scrape.
    pub async fn start(rules: &Value) -> Self {
        let program = monitoring_tool("prometheus").await;
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.json"],
            // As the ServiceMonitor of the chart.
            "scrape_configs": [{"job_name": "tokenward", "honor_labels": true,
                "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}]}],
        });
        // JSON is YAML, too.
        for (name, content) in [("prometheus.yml", &config), ("rules.json", rules)] {
            std::fs::write(folder.path().join(name), content.to_string()).unwrap();
        }
        let file = |name: &str| folder.path().join(name);
        let child = guarded(program)
            .arg(flag("config.file", &file("prometheus.yml")))
            .arg(flag("storage.tsdb.path", &file("data")))
            .args(["--web.listen-address=127.0.0.1:0", "--log.format=json"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(file("log")).unwrap())
            .spawn()
            .expect("prometheus");
        let mut started = Self {
            child,
            folder,
            address: String::new(),
            http: Client::builder().no_proxy().build().unwrap(),
        };
        started.address = eventually("the address of Prometheus", async || {
            let ended = started.child.try_wait().unwrap();
            assert!(ended.is_none(), "Prometheus has ended: {}", started.log());
            started.listens()
        })
        .await;
        eventually("Prometheus is ready", async || {
            let url = format!("http://{}/-/ready", started.address);
            let answer = started.http.get(url).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        started
    }

    /// Scrapes these from now on, and nothing else: each a pod's name and its address.
    pub fn scrape(&self, targets: &[(&str, &str)]) {
        let targets = targets.iter().map(|(pod, address)| {
            json!({"targets": [address], "labels": {"namespace": "system", "pod": pod}})
        });
        // Written aside and moved into place: it is read all the time.
        let aside = self.folder.path().join("aside");
        std::fs::write(&aside, targets.collect::<Value>().to_string()).unwrap();
        std::fs::rename(aside, self.folder.path().join("targets.json")).unwrap();
    }

    /// What it answers to an expression now: the elements of a vector.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        let answer = self
            .ask("query", &[("query", expression)])
            .await
            .unwrap_or_else(|refused| panic!("{expression}: {refused}"));
        let result = &answer["result"];
        let elements = result.as_array();
        elements
            .unwrap_or_else(|| panic!("{expression} gives no vector: {answer}"))
            .clone()
    }

    /// Waits until it answers something to an expression, and returns that.
    pub async fn until(&self, expression: &str) -> Vec<Value> {
        eventually(expression, async || {
            let found = self.query(expression).await;
            (!found.is_empty()).then_some(found)
        })
        .await
    }

    /// The alerts of this name that are pending or firing.
    pub async fn alerts(&self, name: &str) -> Vec<Value> {
        let answer = self.ask("alerts", &[]).await.expect("the alerts");
        let all = answer["alerts"].as_array().expect("a list").iter();
        all.filter(|alert| alert["labels"]["alertname"] == name)
            .cloned()
            .collect()
    }

    async fn ask(&self, what: &str, parameters: &[(&str, &str)]) -> Result<Value, Value> {
        let mut url: url::Url = format!("http://{}/api/v1/{what}", self.address)
            .parse()
            .unwrap();
        url.query_pairs_mut().extend_pairs(parameters);
        let answer = self.http.get(url).send().await.expect("Prometheus answers");
        let answer = answer.text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap_or(Value::String(answer));
        if answer["status"] == "success" {
            Ok(answer["data"].clone())
        } else {
            Err(answer)
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Where it says that it listens.
    fn listens(&self) -> Option<String> {
        let log = self.log();
        let mut lines = log.lines().filter_map(|l| serde_json::from_str(l).ok());
        let line: Value = lines.find(|line: &Value| line["msg"] == "Listening on")?;
        Some(line["address"].as_str()?.to_owned())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the log of Prometheus ---\n{}", self.log());
        }
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
