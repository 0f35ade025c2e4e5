// Files and uploads on the wire: a service over a store of its own.
#include "api/internal/test_accounts.h"

namespace qw::api {
namespace {

using test::HttpAnswer;

class FilesTest : public test::AccountsServiceTest {
 protected:
  HttpAnswer send_form(const std::string& path, const std::string& body, const std::string& headers = "") {
    return ask("POST", path, body, headers + bearer(key_) + "Content-Type: multipart/form-data; boundary=XX\r\n");
  }
  static std::string field(const std::string& disposition, const std::string& body) {
    return "--XX\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + body + "\r\n";
  }
  json::Value upload(const std::string& name, const std::string& content, const std::string& purpose = "batch") {
    const auto answer = send_form("/v1/files", field("name=purpose", purpose) +
                                                   field("name=file; filename=\"" + name + "\"", content) + "--XX--");
    EXPECT_EQ(answer.status, 200) << answer.body;
    return *json::parse(answer.body);
  }
  HttpAnswer get(const std::string& path) { return ask("GET", path, "", bearer(key_)); }
  json::Value get_json(const std::string& path) { return *json::parse(get(path).body); }
  json::Value post(const std::string& path, const std::string& body, int status = 200) {
    return ask_json(path, body, status, bearer(key_));
  }
};

TEST_F(FilesTest, AFileIsKeptListedReadAndDeleted) {
  const json::Value first = upload("一.jsonl", "{\"a\":1}\n"), second = upload("two.txt", "two", "fine-tune");
  EXPECT_EQ(dump(first.find("object")), "\"file\"");
  EXPECT_EQ(dump(first.find("bytes")), "8");
  EXPECT_EQ(dump(first.find("filename")), "\"一.jsonl\"");
  EXPECT_EQ(dump(first.find("purpose")), "\"batch\"");
  const std::string id = at(first, "id").as_string();
  const auto ids = [&](const std::string& query) {
    std::string out;
    const json::Value list = get_json("/v1/files" + query);
    for (const auto& file : at(list, "data").as_array()) out += at(file, "filename").as_string() + " ";
    return out;
  };
  EXPECT_EQ(ids(""), "two.txt 一.jsonl ");
  EXPECT_EQ(ids("?order=asc"), "一.jsonl two.txt ");
  EXPECT_EQ(ids("?purpose=batch"), "一.jsonl ");
  EXPECT_EQ(ids("?limit=1"), "two.txt ");
  EXPECT_EQ(dump(get_json("/v1/files?limit=1").find("has_more")), "true");
  EXPECT_EQ(ids("?limit=1&after=" + at(second, "id").as_string()), "一.jsonl ");
  EXPECT_EQ(json::dump(get_json("/v1/files/" + id)), json::dump(first));
  const auto content = get("/v1/files/" + id + "/content");
  EXPECT_NE(content.body.find("{\"a\":1}\n"), std::string::npos);
  EXPECT_NE(content.head.find("filename*=UTF-8''%E4%B8%80.jsonl"), std::string::npos) << content.head;
  EXPECT_EQ(dump(json::parse(ask("DELETE", "/v1/files/" + id, "", bearer(key_)).body)->find("deleted")), "true");
  EXPECT_EQ(get("/v1/files/" + id).status, 404);
  EXPECT_EQ(get("/v1/files/" + id + "/content").status, 404);
}

TEST_F(FilesTest, WhatIsWrongWithAFileIsSaid) {
  const auto why = [&](const std::string& body) {
    return at(at(*json::parse(send_form("/v1/files", body).body), "error"), "message").as_string();
  };
  EXPECT_NE(why(field("name=purpose", "batch") + "--XX--").find("'file' is required"), std::string::npos);
  EXPECT_NE(why(field("name=file; filename=a", "") + "--XX--").find("'purpose' is required"), std::string::npos);
  EXPECT_NE(why(field("name=purpose", "x") + field("name=file; filename=a", "") + "--XX--").find("not one of"),
            std::string::npos);
  EXPECT_NE(why("nonsense").find("boundary"), std::string::npos);
  EXPECT_EQ(ask("PUT", "/v1/files", "", bearer(key_)).status, 405);
  EXPECT_EQ(get("/v1/files?limit=0").status, 400);
  EXPECT_EQ(get("/v1/files?order=up").status, 400);
}

TEST_F(FilesTest, AnotherProjectSeesNothingOfIt) {
  const std::string id = at(upload("mine.txt", "secret"), "id").as_string();
  ASSERT_TRUE(store_->tenants().add_project("o", "other").has_value());
  const auto other = *store_->tenants().add_key({"other", "", "", {"*"}, {}, {}, 0});
  for (const char* path : {"", "/content"})
    EXPECT_EQ(ask("GET", "/v1/files/" + id + path, "", bearer(other)).status, 404);
  EXPECT_EQ(ask("DELETE", "/v1/files/" + id, "", bearer(other)).status, 404);
  EXPECT_NE(ask("GET", "/v1/files", "", bearer(other)).body.find("\"data\":[]"), std::string::npos);
  const auto reader = key({"files.read"});
  EXPECT_EQ(ask("GET", "/v1/files/" + id, "", bearer(reader)).status, 200);
  EXPECT_EQ(ask("DELETE", "/v1/files/" + id, "", bearer(reader)).status, 403);
}

TEST_F(FilesTest, AnUploadIsJoinedFromItsPartsInTheOrderOfItsCompletion) {
  const json::Value begun =
      post("/v1/uploads", R"({"filename":"big.bin","purpose":"user_data","bytes":7,"mime_type":"text/plain"})");
  const std::string id = at(begun, "id").as_string(), path = "/v1/uploads/" + id;
  EXPECT_EQ(at(begun, "status").as_string(), "pending");
  const auto part = [&](const std::string& data) {
    return at(*json::parse(send_form(path + "/parts", field("name=data; filename=p", data) + "--XX--").body), "id")
        .as_string();
  };
  const std::string tail = part("efg"), head = part("abcd"), ids = "{\"part_ids\":[\"" + head + "\",\"" + tail + "\"]";
  EXPECT_NE(json::dump(post(path + "/complete", "{\"part_ids\":[\"" + tail + "\"]}", 400)).find("announced with 7"),
            std::string::npos);
  EXPECT_NE(
      json::dump(post(path + "/complete", ids + ",\"md5\":\"00\"}", 400)).find("7ac66c0f148de9519b8bd264312c4d64"),
      std::string::npos);
  EXPECT_EQ(get("/v1/files/" + head).status, 404);  // a part is no file
  const json::Value done = post(path + "/complete", ids + ",\"md5\":\"7ac66c0f148de9519b8bd264312c4d64\"}");
  EXPECT_EQ(at(done, "status").as_string(), "completed");
  const json::Value& file = at(done, "file");
  EXPECT_EQ(at(file, "filename").as_string(), "big.bin");
  EXPECT_NE(get("/v1/files/" + at(file, "id").as_string() + "/content").body.find("abcdefg"), std::string::npos);
  EXPECT_EQ(at(get_json("/v1/files"), "data").as_array().size(), 1u);
  post(path + "/complete", ids + "}", 400);
  post(path + "/cancel", "{}", 400);
  post("/v1/uploads/upload_none/complete", ids + "}", 404);
}

TEST_F(FilesTest, WithoutAStoreNothingIsKept) {
  start_service(nullptr);
  EXPECT_EQ(ask("GET", "/v1/files", "").status, 501);
  EXPECT_EQ(ask("POST", "/v1/uploads", "{}").status, 501);
}

TEST_F(FilesTest, DashScopeHasTheSameFilesInItsOwnShape) {
  const auto sent = send_form("/api/v1/files", field("name=files; filename=\"a.jsonl\"", "{}\n") +
                                                   field("name=files; filename=\"b.jsonl\"", "{}\n{}\n") + "--XX--");
  ASSERT_EQ(sent.status, 200) << sent.body;
  const json::Value answer = *json::parse(sent.body);
  const json::Array& uploaded = at(at(answer, "data"), "uploaded_files").as_array();
  ASSERT_EQ(uploaded.size(), 2u);
  EXPECT_EQ(at(uploaded[1], "name").as_string(), "b.jsonl");
  EXPECT_TRUE(at(at(answer, "data"), "failed_uploads").as_array().empty());
  const std::string id = at(uploaded[0], "file_id").as_string();
  const json::Value one = get_json("/api/v1/files/" + id);
  EXPECT_EQ(at(at(one, "data"), "size").as_int(), 3);
  EXPECT_EQ(at(at(one, "data"), "md5").as_string(), "8a80554c91d9fca8acb82f023de02f11");  // md5sum of "{}\n"
  EXPECT_EQ(at(at(one, "data"), "purpose").as_string(), "fine-tune");
  EXPECT_EQ(at(get_json("/v1/files/" + id), "filename").as_string(), "a.jsonl");
  upload("c.jsonl", "x");
  const json::Value page = get_json("/api/v1/files?page_no=2&page_size=2");
  EXPECT_EQ(at(at(page, "data"), "total").as_int(), 3);
  ASSERT_EQ(at(at(page, "data"), "files").as_array().size(), 1u);
  EXPECT_EQ(at(at(at(page, "data"), "files").as_array()[0], "file_id").as_string(), id);  // the oldest
  EXPECT_EQ(get("/api/v1/files?page_size=0").status, 400);
  EXPECT_EQ(ask("DELETE", "/api/v1/files/" + id, "", bearer(key_)).status, 200);
  const auto gone = get("/api/v1/files/" + id);
  EXPECT_EQ(gone.status, 404);
  EXPECT_NE(gone.body.find("request_id"), std::string::npos);
  EXPECT_EQ(send_form("/api/v1/files", field("name=purpose", "batch") + "--XX--").status, 400);
  // It needs the right of its files, and sees no others'.
  EXPECT_EQ(ask("GET", "/api/v1/files", "", bearer(key({"inference"}))).status, 403);
}

}  // namespace
}  // namespace qw::api
