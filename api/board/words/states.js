// Words for what a part of a page shows while it has no numbers, or not the newest.

export const en = {
  loading: "Loading…",
  stale: "The ledger does not answer. These numbers were published earlier and may be out of date.",
  no_answer: "The API does not answer.",
  timeout: "The API took too long to answer.",
  forbidden: "This key may not see this.",
  kept: "Shown is what was read at {time}.",
  again: "Try again",
};

export const zh = {
  loading: "加载中…",
  stale: "账本暂无响应。以下为较早发布的数据，可能已过时。",
  no_answer: "API 没有响应。",
  timeout: "API 响应超时。",
  forbidden: "此密钥无权查看。",
  kept: "显示的是 {time} 读取的数据。",
  again: "重试",
};
