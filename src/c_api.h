// The models behind fastrnn.h, which streams and pools keep.
#pragma once

#include <atomic>

#include "c_checks.h"
#include "model/loader.h"

struct fr_model {
  fastrnn::LoadedModel loaded;
  mutable std::atomic<long> owners{1};  // the caller, and each stream and pool

  const fastrnn::Network& network() const { return loaded.network; }
  fr_status check_streams() const {
    if (network().streams()) return FR_OK;
    return fastrnn::c_api::fail(FR_UNSUPPORTED, "model: expected one that can be streamed, but %s",
                                loaded.not_streamed.c_str());
  }
  const fr_model* keep() const {
    owners.fetch_add(1, std::memory_order_relaxed);
    return this;
  }
  static void release(const fr_model* model) {
    if (model && model->owners.fetch_sub(1, std::memory_order_acq_rel) == 1) delete model;
  }
};
