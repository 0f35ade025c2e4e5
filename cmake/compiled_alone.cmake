# Sources of a room are compiled several at a time (CMAKE_UNITY_BUILD; not in the presets edit and debug, but for test programs),
# which halves what they take to compile; a name that two files each keep to themselves would then be defined twice. These files
# have such a name, and are compiled alone; "redefinition" in a build means that another belongs here, or a better name.
set(compiled_alone
  # Classes with parts that GCC wants to see in the main file (-Wsubobject-linkage).
  src/base/thread_pool.cc src/governance/audit/audit_log.cc src/governance/keywords/keyword_list.cc
  src/api/admin/money_operations.cc src/api/admin/tenant_operations.cc src/api/api_test.cc src/api/auth.cc src/api/dashscope/files.cc src/api/dashscope/tasks.cc
  src/api/feedback/api.cc src/api/feedback/chain.cc src/api/feedback_loop_test.cc src/api/fine_tuning_test.cc src/api/generation/input_guard.cc
  src/api/loop_breaker_test.cc src/api/mcp_test.cc src/api/model_swap.cc src/api/openai/files.cc src/api/openai/fine_tuning/api.cc
  src/api/openai/fine_tuning/job.cc src/api/openai/fine_tuning/run.cc src/api/openai/responses/api.cc
  src/api/openai/responses/request.cc src/api/openapi.cc src/api/operations_test.cc src/api/protocols_test.cc
  src/api/provenance.cc src/api/rollouts/api.cc src/api/rollouts/evaluations.cc src/api/routes.cc src/api/served_model_test.cc
  src/api/stop_switch.cc
  src/chat/internal/sequence_filters.cc src/chat/internal/string_methods.cc src/chat/internal/write.cc
  src/data/provenance.cc
  src/engine/engine_test.cc src/engine/gathering_test.cc src/engine/heads_test.cc src/engine/layer_drafter_test.cc
  src/engine/loaded_model_test.cc src/engine/model_host.cc src/engine/prompt_rows_test.cc src/engine/random_test.cc
  src/engine/read.cc src/engine/steady_step_test.cc src/engine/work_ahead_test.cc
  src/eval/sandbox.cc
  src/formats/imatrix_writer.cc src/formats/quantised_weights.cc src/formats/safetensors_hostile_test.cc
  src/formats/safetensors_writer.cc
  src/governance/assess/gate.cc src/governance/assess/report.cc src/governance/assess/results.cc src/governance/assess/summary.cc
  src/governance/audit/verify.cc src/governance/dossier/data_documents.cc src/governance/dossier/manifest.cc
  src/governance/incident/incident_register.cc src/governance/label/internal/markdown_carrier.cc
  src/governance/label/internal/picture.cc src/governance/label/internal/xmp.cc src/governance/ledger/compute_ledger.cc src/governance/ledger/dataset_ledger.cc
  src/governance/ledger/licence.cc src/governance/pii/pii_finder.cc src/governance/policy/approvals.cc
  src/governance/policy/profile.cc src/governance/policy/stop_list.cc src/governance/watermark/mark_function.cc
  src/governance/watermark/mark_key.cc
  src/hub/model_store.cc
  src/models/dual_chunk_test.cc src/models/internal/dual_chunk.cc src/models/internal/file_form.cc
  src/models/internal/hybrid_config.cc src/models/internal/mixture.cc src/models/parity_test.cc src/models/quantised_test.cc
  src/models/qwen3/qwen3_test.cc src/models/qwen3_next/qwen3_next_test.cc src/models/reference_test.cc
  src/net/http_client_test.cc src/net/http_tls_test.cc src/net/internal/session.cc src/net/multipart.cc src/net/url.cc
  src/sampling/grammar/regex.cc src/sampling/thinking_budget_test.cc
  src/store/conduct.cc src/store/documents.cc src/store/feedback.cc src/store/files.cc src/store/internal/tenant_rows.cc src/store/jobs.cc src/store/tenants.cc
  src/tokenizer/load_folder.cc src/tokenizer/tokenizer_json.cc src/tokenizer/tokenizer_test.cc src/tokenizer/trainer_test.cc
  src/train/compute_record.cc src/train/golden_test.cc src/train/grpo_test.cc src/train/kto_test.cc src/train/preference.cc
  src/train/preference_test.cc src/train/references.cc src/train/report.cc src/train/retrieval_test.cc src/train/trainer.cc)
list(TRANSFORM compiled_alone PREPEND ${PROJECT_SOURCE_DIR}/)
set_source_files_properties(${compiled_alone} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
