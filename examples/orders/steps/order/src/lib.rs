//! An order, as it travels between the steps. Text is borrowed from the event, but where JSON escapes stand in it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub struct Order<'a> {
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    #[serde(borrow)]
    pub placed_at: Cow<'a, str>,
    #[serde(borrow)]
    pub currency: Cow<'a, str>,
    #[serde(borrow)]
    pub customer: Customer<'a>,
    #[serde(borrow)]
    pub lines: Vec<Line<'a>>,
    #[serde(borrow)]
    pub coupon: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub shipping: Address<'a>,
    #[serde(borrow)]
    pub note: Cow<'a, str>,
    /// How many pieces; added by `check`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u32>,
    /// Added by `price`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Added by `tier`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Cow<'a, str>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Customer<'a> {
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    #[serde(borrow)]
    pub email: Cow<'a, str>,
    pub vip: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Line<'a> {
    #[serde(borrow)]
    pub sku: Cow<'a, str>,
    #[serde(borrow)]
    pub title: Cow<'a, str>,
    pub quantity: u32,
    pub unit_cents: u64,
    /// Added by `price`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_cents: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Address<'a> {
    #[serde(borrow)]
    pub street: Cow<'a, str>,
    #[serde(borrow)]
    pub zip: Cow<'a, str>,
    #[serde(borrow)]
    pub city: Cow<'a, str>,
    #[serde(borrow)]
    pub country: Cow<'a, str>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Price {
    pub lines_cents: u64,
    pub discount_cents: u64,
    pub shipping_cents: u64,
    pub tax_cents: u64,
    pub total_cents: u64,
}
