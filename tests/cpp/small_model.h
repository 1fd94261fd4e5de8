/* A model file in memory, as fastrnn.save writes it: GRU(2, 3) and Linear(3, 2). C99 and C++. */
#ifndef SMALL_MODEL_H
#define SMALL_MODEL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SMALL_MODEL_VALUES (9 * 2 + 9 * 3 + 9 + 9 + 2 * 3 + 2)

/* A tensor's entry: name, shape, and where its values begin and end in bytes. */
#define SMALL_MODEL_TENSOR(name, shape, begin, end) \
  "\"" name "\":{\"dtype\":\"F32\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end "]}"

/* clang-format off */
static const char small_model_header[] =
    "{\"__metadata__\":{\"fastrnn\":\""
    "{\\\"format\\\":1,\\\"version\\\":\\\"0.1.0\\\",\\\"model\\\":"
    "{\\\"class\\\":\\\"Sequential\\\",\\\"config\\\":{\\\"layers\\\":["
    "{\\\"class\\\":\\\"GRU\\\",\\\"config\\\":{\\\"input_size\\\":2,\\\"hidden_size\\\":3}},"
    "{\\\"class\\\":\\\"Linear\\\",\\\"config\\\":{\\\"in_features\\\":3,\\\"out_features\\\":2}}]}},"
    "\\\"metadata\\\":{\\\"rate\\\":8000}}\"},"
    SMALL_MODEL_TENSOR("0.weight_ih_l0", "9,2", "0", "72") ","
    SMALL_MODEL_TENSOR("0.weight_hh_l0", "9,3", "72", "180") ","
    SMALL_MODEL_TENSOR("0.bias_ih_l0", "9", "180", "216") ","
    SMALL_MODEL_TENSOR("0.bias_hh_l0", "9", "216", "252") ","
    SMALL_MODEL_TENSOR("1.weight", "2,3", "252", "276") ","
    SMALL_MODEL_TENSOR("1.bias", "2", "276", "284") "}";
/* clang-format on */

typedef struct small_model {
  unsigned char bytes[8 + sizeof small_model_header - 1 + 4 * SMALL_MODEL_VALUES];
  float values[SMALL_MODEL_VALUES]; /* in the order of the file */
} small_model;

static void small_model_make(small_model* model) {
  const size_t length = sizeof small_model_header - 1;
  uint32_t random = 1;
  int i;
  for (i = 0; i < SMALL_MODEL_VALUES; ++i) {
    random = random * 1664525u + 1013904223u;
    model->values[i] = (float)(random >> 8) / 8388608.0f - 1.0f;
  }
  for (i = 0; i < 8; ++i) model->bytes[i] = (unsigned char)((uint64_t)length >> (8 * i));
  memcpy(model->bytes + 8, small_model_header, length);
  memcpy(model->bytes + 8 + length, model->values, sizeof model->values);
}

#endif
