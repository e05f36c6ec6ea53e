//! The ids that a cluster gives its topics (KIP-516): one that was deleted and made anew has another.

use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::bindings::*;

use crate::error::LogError;
use crate::log::{Result, TopicId};

/// What Kafka before 2.8 says: it has no ids.
const NONE: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Asks for the id of a topic. `client` lives until this returns.
#[expect(unsafe_code, reason = "rdkafka does not wrap DescribeTopics")]
pub(super) fn topic_id(client: *mut rd_kafka_t, topic: &str, wait: Duration) -> Result<TopicId> {
    let Ok(name) = CString::new(topic) else {
        return Err(LogError::missing_topic(topic));
    };
    let mut names = [name.as_ptr()];
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    let mut said = [0; 128];
    // SAFETY: the caller holds the client; what is made here is destroyed here, once and after its last use; names are
    // copied by the collection, and what is read belongs to the event, which goes last.
    unsafe {
        let queue = rd_kafka_queue_new(client);
        let topics = rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let operation = rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = rd_kafka_AdminOptions_new(client, operation);
        // a wait out of range leaves the default, and the poll below ends in time all the same
        rd_kafka_AdminOptions_set_request_timeout(options, wait_ms, said.as_mut_ptr(), said.len());
        rd_kafka_DescribeTopics(client, topics, options, queue);
        let event = rd_kafka_queue_poll(queue, wait_ms);
        let id = if event.is_null() {
            Err(LogError::unavailable("no answer about a topic's id"))
        } else {
            read(event, topic)
        };
        if !event.is_null() {
            rd_kafka_event_destroy(event);
        }
        rd_kafka_AdminOptions_destroy(options);
        rd_kafka_TopicCollection_destroy(topics);
        rd_kafka_queue_destroy(queue);
        id
    }
}

/// # Safety
/// `event` is the answer to a DescribeTopics of one topic.
#[expect(unsafe_code, reason = "rdkafka does not wrap DescribeTopics")]
unsafe fn read(event: *mut rd_kafka_event_t, topic: &str) -> Result<TopicId> {
    // SAFETY: by the caller; a result without topics, or of another kind, is null or counts none.
    unsafe {
        if rd_kafka_event_error(event) != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            let said = CStr::from_ptr(rd_kafka_event_error_string(event));
            return Err(LogError::unavailable(said.to_string_lossy()));
        }
        let result = rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let found = if result.is_null() {
            std::ptr::null_mut()
        } else {
            rd_kafka_DescribeTopics_result_topics(result, &raw mut count)
        };
        if found.is_null() || count == 0 {
            return Err(LogError::missing_topic(topic));
        }
        let found = *found;
        let error = rd_kafka_TopicDescription_error(found);
        if !error.is_null()
            && rd_kafka_error_code(error) != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return Err(LogError::missing_topic(topic));
        }
        let text = rd_kafka_Uuid_base64str(rd_kafka_TopicDescription_topic_id(found));
        if text.is_null() {
            return Err(LogError::unavailable("a topic without an id"));
        }
        let id = CStr::from_ptr(text).to_string_lossy();
        Ok(TopicId::from(if id == NONE { topic } else { &*id }))
    }
}
