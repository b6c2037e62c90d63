//! Callers of the console API: a portal that wants a console of a virtual machine.

use crate::vcsim::Vm;
use serde_json::{Value, json};
use std::path::Path;

/// The API token that callers present. It guards a test's own vCenter on loopback.
pub const API_TOKEN: &str = "test-portal-api-token-0123456789";
/// SHA-256 of [`API_TOKEN`], as the authority's configuration holds it.
pub const API_TOKEN_SHA256: &str =
    "930cff54e97d9e52e892c501b61d1e1d3adf0278815dc67a6f2e60964ef06456";
/// The hypervisor name that the vCenter is configured with, in nova's notation.
pub const HYPERVISOR: &str = "domain-c7(DC0_C0)";

/// A caller of the console API at one address.
#[derive(Clone, Debug)]
pub struct ConsoleApi {
    base_url: String,
    token: String,
    http: reqwest::Client,
}

/// A console as the API returns it.
#[derive(Clone, Debug)]
pub struct Console {
    /// The URL to open in a browser.
    pub url: String,
    /// The token in it.
    pub token: String,
}

impl ConsoleApi {
    /// The API below `base_url`, for example `https://consoles.example.com`, called with [`API_TOKEN`].
    pub fn new(base_url: String, http: reqwest::Client) -> Self {
        Self { base_url, token: API_TOKEN.to_owned(), http }
    }

    /// The same with another API token.
    pub fn with_token(self, token: String) -> Self {
        Self { token, ..self }
    }

    /// Asks for a console.
    ///
    /// # Panics
    ///
    /// When the answer is not a console.
    pub async fn console(&self, vm: &Vm) -> Console {
        self.try_console(vm).await.expect("the console API answers")
    }

    /// The same of an authority that may be gone.
    ///
    /// # Errors
    ///
    /// When the authority does not answer, or the answer breaks off.
    ///
    /// # Panics
    ///
    /// When the answer is not a console.
    pub async fn try_console(&self, vm: &Vm) -> reqwest::Result<Console> {
        let response = self.try_request_console(&vm.instance_uuid).await?;
        let status = response.status();
        let body = response.text().await?;
        assert!(status.is_success(), "no console for {}: {status} {body}", vm.name);
        let answer: Value = serde_json::from_str(&body).expect("JSON from the console API");
        let url = answer["console"]["url"].as_str().expect("a console URL").to_owned();
        let (_, token) = url.rsplit_once("token=").expect("a token in the console URL");
        Ok(Console { token: token.to_owned(), url })
    }

    /// Asks for a console with these further properties of the action.
    ///
    /// # Panics
    ///
    /// When the answer is not a console.
    pub async fn console_with(&self, vm: &Vm, properties: Value) -> Console {
        let mut action = action();
        let arguments = action["os-getVNCConsoleVmware"].as_object_mut().expect("an object");
        arguments.extend(properties.as_object().expect("an object").clone());
        let request = self.http.post(self.action_url(&vm.instance_uuid));
        let request = request.header("X-Auth-Token", &self.token).json(&action);
        let answer = request.send().await.expect("the console API answers");
        let answer: Value = answer.json().await.expect("JSON from the console API");
        let url = answer["console"]["url"].as_str();
        let url = url.unwrap_or_else(|| panic!("no console: {answer}")).to_owned();
        let (_, token) = url.rsplit_once("token=").expect("a token in the console URL");
        Console { token: token.to_owned(), url }
    }

    /// The answer to asking for a console of an instance, whatever it is.
    pub async fn request_console(&self, instance_uuid: &str) -> reqwest::Response {
        self.try_request_console(instance_uuid).await.expect("the console API answers")
    }

    /// The same of an authority that may be gone.
    ///
    /// # Errors
    ///
    /// When the authority does not answer.
    pub async fn try_request_console(
        &self,
        instance_uuid: &str,
    ) -> reqwest::Result<reqwest::Response> {
        let request = self.http.post(self.action_url(instance_uuid));
        request.header("X-Auth-Token", &self.token).json(&action()).send().await
    }

    /// The `curl` command that asks the same, trusting the CA in the file `ca`.
    pub fn curl(&self, instance_uuid: &str, ca: &Path) -> String {
        format!(
            "curl --cacert {} -H 'X-Auth-Token: {}' -H 'Content-Type: application/json' \\\n  \
             -d '{}' \\\n  {}",
            ca.display(),
            self.token,
            action(),
            self.action_url(instance_uuid)
        )
    }

    /// Another request of the API, with the token.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.base_url);
        self.http.request(method, url).header("X-Auth-Token", &self.token)
    }

    fn action_url(&self, instance_uuid: &str) -> String {
        format!("{}/v2.1/servers/{instance_uuid}/action", self.base_url)
    }
}

fn action() -> Value {
    json!({"os-getVNCConsoleVmware": {"type": "novnc", "hypervisor_name": HYPERVISOR}})
}
