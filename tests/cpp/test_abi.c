/* What programs that were built against fastrnn.h rely on: the layout of its structs where pointers have
 * 64 bits (x86-64 and aarch64), and the values of its enumerations. What stands here never changes for
 * one FR_ABI_VERSION; new fields go to the end of a struct, and to the end of its list. */
#include <stddef.h>
#include <stdio.h>

#include "fastrnn/fastrnn.h"

static int failures = 0;

static void expect(const char* what, size_t got, size_t expected) {
  if (got == expected) return;
  ++failures;
  printf("%s: expected %lu, got %lu\n", what, (unsigned long)expected, (unsigned long)got);
}
#define SIZE(type, bytes) expect("sizeof " #type, sizeof(type), bytes)
#define OFFSET(type, field, bytes) expect(#type "." #field, offsetof(type, field), bytes)
#define VALUE(name, number) expect(#name, (size_t)(name), number)

static void check_structs(void) {
  SIZE(fr_model_options, 16);
  OFFSET(fr_model_options, struct_size, 0);
  OFFSET(fr_model_options, precision, 8);

  SIZE(fr_model_info, 56);
  OFFSET(fr_model_info, struct_size, 0);
  OFFSET(fr_model_info, input_size, 8);
  OFFSET(fr_model_info, output_size, 16);
  OFFSET(fr_model_info, state_size, 24);
  OFFSET(fr_model_info, memory, 32);
  OFFSET(fr_model_info, takes_tokens, 40);
  OFFSET(fr_model_info, streams, 44);
  OFFSET(fr_model_info, precision, 48);

  SIZE(fr_stream_options, 16);
  OFFSET(fr_stream_options, struct_size, 0);
  OFFSET(fr_stream_options, block_steps, 8);

  SIZE(fr_session, 8);
  SIZE(fr_pool_options, 56);
  OFFSET(fr_pool_options, struct_size, 0);
  OFFSET(fr_pool_options, capacity, 8);
  OFFSET(fr_pool_options, threads, 16);
  OFFSET(fr_pool_options, max_batch, 24);
  OFFSET(fr_pool_options, max_pending, 32);
  OFFSET(fr_pool_options, max_delay, 40);
  OFFSET(fr_pool_options, idle_timeout, 48);

  SIZE(fr_pool_request, 104);
  OFFSET(fr_pool_request, struct_size, 0);
  OFFSET(fr_pool_request, session, 8);
  OFFSET(fr_pool_request, reset, 16);
  OFFSET(fr_pool_request, state, 24);
  OFFSET(fr_pool_request, state_size, 32);
  OFFSET(fr_pool_request, x, 40);
  OFFSET(fr_pool_request, tokens, 48);
  OFFSET(fr_pool_request, steps, 56);
  OFFSET(fr_pool_request, y, 64);
  OFFSET(fr_pool_request, state_out, 72);
  OFFSET(fr_pool_request, state_out_size, 80);
  OFFSET(fr_pool_request, done, 88);
  OFFSET(fr_pool_request, context, 96);

  SIZE(fr_pool_stats, 104);
  OFFSET(fr_pool_stats, struct_size, 0);
  OFFSET(fr_pool_stats, sessions, 8);
  OFFSET(fr_pool_stats, pending_steps, 16);
  OFFSET(fr_pool_stats, steps, 24);
  OFFSET(fr_pool_stats, batches, 32);
  OFFSET(fr_pool_stats, expired, 40);
  OFFSET(fr_pool_stats, batch_sizes, 48);
}

static void check_enumerations(void) {
  SIZE(fr_status, 4);
  VALUE(FR_OK, 0);
  VALUE(FR_INVALID_ARGUMENT, 1);
  VALUE(FR_OUT_OF_MEMORY, 2);
  VALUE(FR_IO_ERROR, 3);
  VALUE(FR_INVALID_MODEL, 4);
  VALUE(FR_UNSUPPORTED, 5);
  VALUE(FR_INTERNAL_ERROR, 6);
  VALUE(FR_FULL, 7);
  VALUE(FR_UNKNOWN_SESSION, 8);
  VALUE(FR_CANCELLED, 9);
  VALUE(FR_SHUT_DOWN, 10);

  SIZE(fr_precision, 4);
  VALUE(FR_PRECISION_AS_STORED, 0);
  VALUE(FR_PRECISION_FLOAT32, 1);
  VALUE(FR_PRECISION_BF16, 2);
  VALUE(FR_PRECISION_BF16_DOT, 3);
  VALUE(FR_PRECISION_INT8, 4);
}

int main(void) {
  if (sizeof(void*) == 8) check_structs();
  check_enumerations();
  VALUE(FR_ABI_VERSION, 1);
  expect("fr_abi_version()", (size_t)fr_abi_version(), 1);
  return failures > 0;
}
