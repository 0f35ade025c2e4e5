# Sources of a room are compiled several at a time (CMAKE_UNITY_BUILD; not in the presets edit and debug, but for test programs),
# which halves what they take to compile; a name that two files each keep to themselves would then be defined twice. The files named here
# have such a name: those of a room, or of the commands, in one list below are compiled together, and apart from the room's others, which go by eights.
# "redefinition" in a build means that another file belongs into a list where it meets no twin, or better: that it needs a better name.
set(apart_1
  apps/qianwen/assess.cc apps/qianwen/cmd_models.cc apps/qianwen/cmd_train.cc apps/qianwen/govern_review.cc
  apps/qianwen/model_gate.cc apps/qianwen/quality.cc
  src/api/admin/money_operations.cc src/api/auth.cc src/api/dashscope/files.cc src/api/feedback/chain.cc
  src/api/generation/input_guard.cc src/api/openai/fine_tuning/job.cc src/api/openai/fine_tuning/run.cc
  src/api/openai/responses/request.cc
  src/api/api_test.cc src/api/feedback_loop_test.cc src/api/mcp_test.cc
  src/chat/internal/sequence_filters.cc src/chat/internal/string_methods.cc src/chat/internal/write.cc
  src/data/provenance.cc
  src/engine/model_host.cc
  src/engine/engine_test.cc src/engine/random_test.cc
  src/eval/sandbox.cc
  src/formats/imatrix_writer.cc src/formats/quantised_weights.cc src/formats/safetensors_writer.cc
  src/formats/safetensors_hostile_test.cc
  src/governance/assess/gate.cc src/governance/dossier/data_documents.cc src/governance/dossier/manifest.cc
  src/governance/label/internal/markdown_carrier.cc src/governance/label/internal/picture.cc
  src/governance/ledger/dataset_ledger.cc src/governance/ledger/licence.cc src/governance/pii/pii_finder.cc
  src/hub/model_store.cc
  src/models/internal/dual_chunk.cc src/models/internal/file_form.cc src/models/internal/hybrid_config.cc
  src/models/dual_chunk_test.cc src/models/quantised_test.cc src/models/qwen3/qwen3_test.cc
  src/net/internal/session.cc src/net/multipart.cc
  src/net/http_client_test.cc src/net/http_tls_test.cc
  src/ops/experts.cc src/ops/pack_cache.cc
  src/ops/recurrent_test.cc
  src/sampling/grammar/regex.cc
  src/sampling/thinking_budget_test.cc
  src/store/conduct.cc src/store/documents.cc src/store/tenants.cc
  src/tokenizer/load_folder.cc
  src/tokenizer/tokenizer_test.cc src/tokenizer/trainer_test.cc
  src/train/compute_record.cc src/train/preference.cc src/train/trainer.cc
  src/train/golden_test.cc)
set(apart_2
  apps/qianwen/cmd_chat.cc apps/qianwen/govern_assess.cc apps/qianwen/govern_incident.cc apps/qianwen/guard_model.cc
  apps/qianwen/pdf_writer.cc
  src/api/admin/tenant_operations.cc src/api/dashscope/tasks.cc src/api/openapi.cc src/api/stop_switch.cc
  src/api/fine_tuning_test.cc src/api/loop_breaker_test.cc src/api/protocols_test.cc
  src/engine/read.cc
  src/engine/gathering_test.cc src/engine/heads_test.cc src/engine/steady_step_test.cc
  src/governance/assess/report.cc src/governance/incident/incident_register.cc src/governance/label/internal/xmp.cc
  src/governance/watermark/mark_key.cc
  src/models/internal/mixture.cc
  src/models/parity_test.cc src/models/qwen3_next/qwen3_next_test.cc
  src/net/url.cc
  src/ops/short_conv.cc
  src/ops/running_rows_test.cc
  src/store/feedback.cc
  src/tokenizer/tokenizer_json.cc
  src/train/references.cc src/train/report.cc
  src/train/grpo_test.cc)
set(apart_3
  apps/qianwen/govern_dossier.cc apps/qianwen/govern_ledger.cc apps/qianwen/govern_scan.cc
  src/api/feedback/api.cc src/api/model_swap.cc src/api/openai/responses/api.cc src/api/provenance.cc src/api/routes.cc
  src/api/operations_test.cc
  src/engine/layer_drafter_test.cc src/engine/loaded_model_test.cc
  src/governance/assess/results.cc src/governance/ledger/compute_ledger.cc src/governance/policy/approvals.cc
  src/governance/policy/stop_list.cc
  src/models/reference_test.cc
  src/store/files.cc
  src/train/kto_test.cc)
set(apart_4
  apps/qianwen/govern_profile.cc
  src/api/openai/files.cc
  src/api/served_model_test.cc
  src/engine/prompt_rows_test.cc
  src/governance/assess/summary.cc src/governance/policy/profile.cc
  src/store/jobs.cc
  src/train/preference_test.cc)
set(apart_5
  apps/qianwen/cmd_govern.cc apps/qianwen/govern_watermark.cc
  src/api/openai/fine_tuning/api.cc
  src/engine/work_ahead_test.cc
  src/governance/audit/verify.cc
  src/train/retrieval_test.cc)
set(apart_6
  src/governance/watermark/mark_function.cc
  src/store/internal/tenant_rows.cc
  apps/qianwen/cmd_data.cc
  src/api/rollouts/api.cc)
set(apart_7
  src/api/rollouts/evaluations.cc)
set(apart_lists apart_1 apart_2 apart_3 apart_4 apart_5 apart_6 apart_7)
# Classes with parts that GCC wants to see in the main file (-Wsubobject-linkage), and a file that another takes the place of in
# tests of emulated tiles.
set(compiled_alone src/base/cpu.cc src/base/thread_pool.cc src/governance/audit/audit_log.cc src/governance/keywords/keyword_list.cc)

# Groups the sources of `target`, of which a batch of CMake's own would take eight in a row whatever they hold.
function(qw_join target)
  set(batch 0)
  set(filled 0)
  foreach(source ${ARGN})
    file(RELATIVE_PATH path ${PROJECT_SOURCE_DIR} ${source})
    set(group)
    foreach(list ${apart_lists})
      if(path IN_LIST ${list})
        set(group ${list})
      endif()
    endforeach()
    if(path IN_LIST compiled_alone)
      continue()
    elseif(NOT group)
      set(group batch_${batch})
      math(EXPR filled "${filled} + 1")
      if(filled EQUAL 8)
        math(EXPR batch "${batch} + 1")
        set(filled 0)
      endif()
    endif()
    set_property(SOURCE ${source} PROPERTY UNITY_GROUP ${group})
  endforeach()
  set_target_properties(${target} PROPERTIES UNITY_BUILD_MODE GROUP)
endfunction()
