//! The few calls that the generator makes, over one HTTP connection each.

use crate::failure::Failure;
use alloy_primitives::{Address, B256, U64};
use jsonrpsee::core::client::{BatchResponse, ClientT};
use jsonrpsee::core::params::{ArrayParams, BatchRequestBuilder};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// The largest answer: a block of a hundred thousand transactions as hashes, with room.
const MAX_RESPONSE: u32 = 256 * 1024 * 1024;
const MAX_REQUEST: u32 = 64 * 1024 * 1024;

/// A connection to a node.
#[derive(Clone)]
pub struct Client {
    http: HttpClient,
    url: String,
}

/// What the generator reads of a block.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockSummary {
    /// Its number.
    pub number: U64,
    /// Hashes.
    pub transactions: Vec<B256>,
}

/// What the generator reads of a receipt.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptSummary {
    /// One for success.
    pub status: U64,
    /// The contract that it created.
    pub contract_address: Option<Address>,
}

impl Client {
    /// Prepares a connection; it opens with the first call.
    pub fn new(url: &str) -> Result<Self, Failure> {
        let http = HttpClientBuilder::default()
            .max_request_size(MAX_REQUEST)
            .max_response_size(MAX_RESPONSE)
            .request_timeout(Duration::from_secs(120))
            .build(url)
            .map_err(|error| Failure::refused(format!("cannot use {url}: {error}")))?;
        Ok(Self { http, url: url.into() })
    }

    /// One call; `params` is a JSON array.
    pub async fn call<R: DeserializeOwned>(
        &self,
        method: &str,
        params: &[Value],
    ) -> Result<R, Failure> {
        let answer = self.http.request(method, array(params)).await;
        answer.map_err(|error| self.failure(method, error))
    }

    /// One call for each of `params`, in batches; the answers in order.
    pub async fn call_many<R: DeserializeOwned + std::fmt::Debug>(
        &self,
        method: &str,
        params: &[Vec<Value>],
    ) -> Result<Vec<R>, Failure> {
        let mut answers = Vec::with_capacity(params.len());
        for part in params.chunks(200) {
            let mut batch = BatchRequestBuilder::new();
            for params in part {
                batch.insert(method, array(params)).expect("JSON values encode");
            }
            let response: BatchResponse<'_, R> =
                self.http.batch_request(batch).await.map_err(|e| self.failure(method, e))?;
            for entry in response {
                answers.push(entry.map_err(|e| self.failure(method, e.message()))?);
            }
        }
        Ok(answers)
    }

    /// Sends signed transactions in one request; for each its hash or the refusal.
    pub async fn send_raw(&self, raw: &[String]) -> Result<Vec<Result<B256, String>>, Failure> {
        const METHOD: &str = "eth_sendRawTransaction";
        if let [one] = raw {
            let mut params = ArrayParams::new();
            params.insert(one).expect("a string encodes");
            return match self.http.request::<B256, _>(METHOD, params).await {
                Ok(hash) => Ok(vec![Ok(hash)]),
                Err(jsonrpsee::core::ClientError::Call(e)) => Ok(vec![Err(e.message().into())]),
                Err(error) => Err(self.failure(METHOD, error)),
            };
        }
        let mut batch = BatchRequestBuilder::new();
        for one in raw {
            let mut params = ArrayParams::new();
            params.insert(one).expect("a string encodes");
            batch.insert(METHOD, params).expect("a string encodes");
        }
        let response: BatchResponse<'_, B256> =
            self.http.batch_request(batch).await.map_err(|e| self.failure(METHOD, e))?;
        Ok(response.into_iter().map(|entry| entry.map_err(|e| e.message().into())).collect())
    }

    /// The newest block's number.
    pub async fn block_number(&self) -> Result<u64, Failure> {
        Ok(self.call::<U64>("eth_blockNumber", &[]).await?.to())
    }

    /// The newest final block's number.
    pub async fn finalized_number(&self) -> Result<u64, Failure> {
        let params = [Value::from("finalized"), false.into()];
        let block: Option<BlockSummary> = self.call("eth_getBlockByNumber", &params).await?;
        Ok(block.map_or(0, |block| block.number.to()))
    }

    /// A block by its number.
    pub async fn block(&self, number: u64) -> Result<Option<BlockSummary>, Failure> {
        self.call("eth_getBlockByNumber", &[Value::from(format!("{number:#x}")), false.into()])
            .await
    }

    fn failure(&self, method: &str, error: impl std::fmt::Display) -> Failure {
        Failure::refused(format!("{method} at {} failed: {error}", self.url))
    }
}

fn array(params: &[Value]) -> ArrayParams {
    let mut array = ArrayParams::new();
    for param in params {
        array.insert(param).expect("JSON values encode");
    }
    array
}
