/* A GRU of 3 inputs and 16 units and a linear layer of 2 outputs, as fastrnn.save writes a model. Its
 * weights come from a linear congruential generator: exact, so the same on every machine. */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { inputs = 3, outputs = 2, weights = 48 + 48 + 48 * 16 + 48 * 3 + 2 + 2 * 16 };

static const char header[] =
    "{\"__metadata__\":{\"fastrnn\":\"{\\\"format\\\": 1, \\\"version\\\": \\\"0.1.0\\\", "
    "\\\"model\\\": {\\\"class\\\": \\\"Sequential\\\", \\\"config\\\": {\\\"layers\\\": ["
    "{\\\"class\\\": \\\"GRU\\\", \\\"config\\\": {\\\"input_size\\\": 3, \\\"hidden_size\\\": 16, "
    "\\\"dtype\\\": \\\"float32\\\"}}, {\\\"class\\\": \\\"Linear\\\", \\\"config\\\": "
    "{\\\"in_features\\\": 16, \\\"out_features\\\": 2, \\\"dtype\\\": \\\"float32\\\"}}]}}, "
    "\\\"metadata\\\": {}}\"},"
    "\"0.bias_hh_l0\":{\"dtype\":\"F32\",\"shape\":[48],\"data_offsets\":[0,192]},"
    "\"0.bias_ih_l0\":{\"dtype\":\"F32\",\"shape\":[48],\"data_offsets\":[192,384]},"
    "\"0.weight_hh_l0\":{\"dtype\":\"F32\",\"shape\":[48,16],\"data_offsets\":[384,3456]},"
    "\"0.weight_ih_l0\":{\"dtype\":\"F32\",\"shape\":[48,3],\"data_offsets\":[3456,4032]},"
    "\"1.bias\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4032,4040]},"
    "\"1.weight\":{\"dtype\":\"F32\",\"shape\":[2,16],\"data_offsets\":[4040,4168]}}";

/* A value in [-0.5, 0.5), a multiple of 2^-24. */
static float next_value(uint64_t* state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (float)(int32_t)((*state >> 40) & 0xffffff) * 0x1p-24f - 0.5f;
}

/* To be freed by the caller. */
static char* make_model(size_t* size) {
  const uint64_t length = sizeof header - 1;
  uint64_t state = 1;
  char *file = (char*)malloc(*size = 8 + length + sizeof(float) * weights), *at = file + 8 + length;
  if (!file) return NULL;
  memcpy(file, &length, 8); /* little-endian, as all machines that this runs on */
  memcpy(file + 8, header, length);
  for (int i = 0; i < weights; ++i, at += sizeof(float)) {
    const float value = next_value(&state);
    memcpy(at, &value, sizeof value);
  }
  return file;
}

#endif
