//! What this client may do, as the brokers see it (KIP-430): asked, not tried out.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

use rdkafka::bindings::rd_kafka_AclOperation_t as Bound;
use rdkafka::bindings::rd_kafka_admin_op_t as Question;
use rdkafka::bindings::rd_kafka_resp_err_t as Response;
use rdkafka::bindings::*;
use rdkafka::producer::Producer as _;

use super::Admin;
use crate::error::LogError;
use crate::log::Result;

/// An operation that somebody may be allowed, as Kafka names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    DescribeConfigs,
    AlterConfigs,
}

impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Create => "CREATE",
            Self::Delete => "DELETE",
            Self::Alter => "ALTER",
            Self::Describe => "DESCRIBE",
            Self::DescribeConfigs => "DESCRIBE_CONFIGS",
            Self::AlterConfigs => "ALTER_CONFIGS",
        }
    }

    fn of(bound: Bound) -> Option<Self> {
        Some(match bound {
            Bound::RD_KAFKA_ACL_OPERATION_READ => Self::Read,
            Bound::RD_KAFKA_ACL_OPERATION_WRITE => Self::Write,
            Bound::RD_KAFKA_ACL_OPERATION_CREATE => Self::Create,
            Bound::RD_KAFKA_ACL_OPERATION_DELETE => Self::Delete,
            Bound::RD_KAFKA_ACL_OPERATION_ALTER => Self::Alter,
            Bound::RD_KAFKA_ACL_OPERATION_DESCRIBE => Self::Describe,
            Bound::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS => Self::DescribeConfigs,
            Bound::RD_KAFKA_ACL_OPERATION_ALTER_CONFIGS => Self::AlterConfigs,
            _ => return None,
        })
    }
}

/// By name; what does not exist is left out, and what this client may not even see has no operations.
pub type Granted = BTreeMap<String, BTreeSet<Operation>>;

impl Admin {
    /// What this client may do with these topics.
    pub fn may_with_topics(&self, names: &[&str], wait: Duration) -> Result<Granted> {
        self.asked(Question::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, names, wait)
    }

    /// Those of the topics that this client may not even see, so that it is not known whether they exist.
    pub fn hidden(&self, names: &[&str], wait: Duration) -> Result<Vec<String>> {
        let may = self.may_with_topics(names, wait)?;
        let unseen = |(name, operations): (String, BTreeSet<Operation>)| {
            // one that has been made this moment is seen by the next broker that is asked
            operations.is_empty().then_some(name)
        };
        Ok(may.into_iter().filter_map(unseen).collect())
    }

    /// What this client may do in these groups.
    pub fn may_with_groups(&self, names: &[&str], wait: Duration) -> Result<Granted> {
        self.asked(
            Question::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
            names,
            wait,
        )
    }

    #[expect(unsafe_code, reason = "rdkafka does not wrap these questions")]
    fn asked(&self, question: Question, names: &[&str], wait: Duration) -> Result<Granted> {
        if names.is_empty() {
            return Ok(Granted::new());
        }
        let names: Vec<CString> = names
            .iter()
            .map(|name| CString::new(*name))
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| LogError::invalid("a name has a zero byte in it"))?;
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        let mut said = [0; 128];
        let client = self.client.client().native_ptr();
        // SAFETY: the client outlives this call; what is made here is destroyed here, once and after its last use; names
        // are copied by the question, and what is read belongs to the event, which goes before the queue.
        unsafe {
            let queue = rd_kafka_queue_new(client);
            let options = rd_kafka_AdminOptions_new(client, question);
            // a wait out of range leaves the default, and the poll below ends in time all the same
            let told = said.as_mut_ptr();
            rd_kafka_AdminOptions_set_request_timeout(options, wait_ms, told, said.len());
            let refused = rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
            if !refused.is_null() {
                rd_kafka_error_destroy(refused);
            }
            if question == Question::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS {
                let topics =
                    rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
                rd_kafka_DescribeTopics(client, topics, options, queue);
                rd_kafka_TopicCollection_destroy(topics);
            } else {
                let (all, count) = (pointers.as_mut_ptr(), pointers.len());
                rd_kafka_DescribeConsumerGroups(client, all, count, options, queue);
            }
            let event = rd_kafka_queue_poll(queue, wait_ms);
            let granted = if event.is_null() {
                Err(LogError::unavailable("no answer about what is allowed"))
            } else {
                read(event)
            };
            if !event.is_null() {
                rd_kafka_event_destroy(event);
            }
            rd_kafka_AdminOptions_destroy(options);
            rd_kafka_queue_destroy(queue);
            granted
        }
    }
}

/// # Safety
/// `event` is the answer to one of the two questions.
#[expect(unsafe_code, reason = "rdkafka does not wrap these questions")]
unsafe fn read(event: *mut rd_kafka_event_t) -> Result<Granted> {
    let mut granted = Granted::new();
    // SAFETY: by the caller; a result of the other kind is null, and what it holds lives as long as the event.
    unsafe {
        if rd_kafka_event_error(event) != Response::RD_KAFKA_RESP_ERR_NO_ERROR {
            let said = CStr::from_ptr(rd_kafka_event_error_string(event));
            return Err(LogError::unavailable(said.to_string_lossy()));
        }
        let mut count = 0;
        let topics = rd_kafka_event_DescribeTopics_result(event);
        if !topics.is_null() {
            let all = rd_kafka_DescribeTopics_result_topics(topics, &raw mut count);
            for at in 0..count {
                let topic = *all.add(at);
                let name = rd_kafka_TopicDescription_name(topic);
                let error = rd_kafka_TopicDescription_error(topic);
                let mut operations = 0;
                let may =
                    rd_kafka_TopicDescription_authorized_operations(topic, &raw mut operations);
                note(&mut granted, name, error, may, operations)?;
            }
        }
        let groups = rd_kafka_event_DescribeConsumerGroups_result(event);
        if !groups.is_null() {
            let all = rd_kafka_DescribeConsumerGroups_result_groups(groups, &raw mut count);
            for at in 0..count {
                let group = *all.add(at);
                let name = rd_kafka_ConsumerGroupDescription_group_id(group);
                let error = rd_kafka_ConsumerGroupDescription_error(group);
                let mut operations = 0;
                let may = rd_kafka_ConsumerGroupDescription_authorized_operations(
                    group,
                    &raw mut operations,
                );
                note(&mut granted, name, error, may, operations)?;
            }
        }
    }
    Ok(granted)
}

/// # Safety
/// `name` is a string, `error` null or an error, and `may` null or `operations` long; all of one answer.
#[expect(unsafe_code, reason = "rdkafka does not wrap these questions")]
unsafe fn note(
    granted: &mut Granted,
    name: *const c_char,
    error: *const rd_kafka_error_t,
    may: *const Bound,
    operations: usize,
) -> Result<()> {
    // SAFETY: by the caller.
    let (name, code, may) = unsafe {
        let name = CStr::from_ptr(name).to_string_lossy().into_owned();
        let code = if error.is_null() {
            Response::RD_KAFKA_RESP_ERR_NO_ERROR
        } else {
            rd_kafka_error_code(error)
        };
        let may = if may.is_null() {
            &[]
        } else {
            std::slice::from_raw_parts(may, operations)
        };
        (name, code, may)
    };
    match code {
        Response::RD_KAFKA_RESP_ERR_NO_ERROR => {
            granted.insert(name, may.iter().filter_map(|o| Operation::of(*o)).collect());
        }
        Response::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
        | Response::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED => {
            granted.insert(name, BTreeSet::new());
        }
        Response::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
        | Response::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND => {}
        code => {
            return Err(LogError::unavailable(format!(
                "what is allowed with \"{name}\": {code:?}"
            )));
        }
    }
    Ok(())
}
